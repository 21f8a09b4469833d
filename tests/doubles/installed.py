"""Plugins of another package, as if it were installed: a directory for a Python path, with the package's metadata in it."""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["install"]


def install(directory: Path, entry_points: Mapping[str, Mapping[str, str]], *, package: str = "doubles") -> Path:
    """Write the metadata of a package with these entry points, by group and name; the directory, for a Python path."""
    metadata = directory / f"{package}-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return directory
