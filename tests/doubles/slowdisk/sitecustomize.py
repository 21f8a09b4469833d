"""A disk that does not answer, for a process with this directory on PYTHONPATH: nothing is durable while the file SLOW_DISK exists."""

import os
import time

_fsync, _sign = os.fsync, os.environ.get("SLOW_DISK", "")


def _wait(descriptor: int) -> None:
    while os.path.exists(_sign):  # noqa: PTH110 - each process that starts imports this: as little as can be
        time.sleep(0.01)
    _fsync(descriptor)


os.fsync = _wait  # type: ignore[assignment]
