"""A wall clock that a test sets under running processes, whose monotonic clock goes on: libfaketime, preloaded."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

__all__ = ["ShiftedClock", "needs_shifted_clock"]

_FOUND = find_spec("libfaketime")
_LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"

needs_shifted_clock = pytest.mark.skipif(
    _FOUND is None or sys.platform != "linux", reason="libfaketime has a wheel for x86-64 Linux only"
)


class ShiftedClock:
    """The wall clock of the processes that are started with its environment."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._file = directory / "shift"
        self._shift = timedelta()
        self.set(timedelta())

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes a process live by this clock."""
        assert _FOUND is not None
        assert _FOUND.origin is not None
        return {
            "LD_PRELOAD": str(Path(_FOUND.origin).parent / _LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds: without, each look at the time reads the file
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # it makes threads that wait for Python's lock spin
        }

    def set(self, shift: timedelta) -> None:
        """Set it to so much after the machine's clock."""
        self._shift = shift
        new = self._file.with_suffix(".new")
        new.write_text(f"{shift.total_seconds():+.0f}\n")
        new.replace(self._file)

    def now(self) -> datetime:
        """What it shows."""
        return datetime.now(UTC) + self._shift  # noqa: TID251 - the machine's clock is what it is shifted from
