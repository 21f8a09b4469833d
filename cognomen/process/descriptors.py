"""How many files and connections a daemon may have open at once, and how many of them a door may take.

Decided here because running out of them hurts more than one door: the store cannot open its files, and gRPC's core ends the process.
This affects the whole process, so the owner of the process raises the limit: the command, before it runs a daemon.
"""

import resource

__all__ = ["descriptor_share", "raise_descriptor_limit"]

_ENOUGH = 65_536


def raise_descriptor_limit() -> None:
    """Raise the soft limit of this process towards the hard one: it often starts with 1024, for programs that call select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptor_share(parts: int, *, most: int) -> int:
    """One of `parts` equal parts of the descriptors that this process may have, but never more than `most`."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft // parts)
