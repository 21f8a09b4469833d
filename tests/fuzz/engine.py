"""Run a fuzz target: whatever the bytes, the outcome is a value or our error.

By hand, without end: `python -m tests.fuzz.values TARGET [libFuzzer options]`, or tests.fuzz.daemons, for instance
`jwt -max_total_time=600`. What it finds is written to the working folder as crash-…; make a test of it.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import atheris

__all__ = ["Target", "main"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the bytes are given to, what to begin with, and the errors that are answers."""

    run: Callable[[bytes], None]
    seeds: Iterable[bytes]
    answers: tuple[type[Exception], ...]


def main(targets: Mapping[str, Target]) -> None:
    """Run the target that the first argument names until libFuzzer's options say stop, or something else comes out."""
    program, name, *options = sys.argv
    target = targets[name]

    def run(data: bytes) -> None:
        with suppress(*target.answers):
            target.run(data)

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([program, *options, "-max_len=8192", corpus], run)
        atheris.Fuzz()
