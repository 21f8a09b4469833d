"""The root of the project, for tests that read its files or run programs in it."""

from pathlib import Path

__all__ = ["ROOT"]

ROOT = Path(__file__).resolve().parents[2]
