"""A disk that is full for one process alone."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["full_disk"]


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Let no file of that process grow, its log included."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
