"""How many files and connections a daemon may have open at once, and which part of them a door may take.

Decided here because running out of them is no fault of one door alone: the store cannot open its files, and gRPC's core ends the process.
For a whole process, so whoever owns the process raises its limit: the command, before it runs a daemon.
"""

import resource

__all__ = ["descriptor_share", "raise_descriptor_limit"]

_ENOUGH = 65_536


def raise_descriptor_limit() -> None:
    """Allow this process what its owner allows it: the limit it starts with is often 1024, for programs that call select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptor_share(parts: int, *, most: int) -> int:
    """One of so many equal parts of the descriptors this process may have, and never more than `most`."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft // parts)
