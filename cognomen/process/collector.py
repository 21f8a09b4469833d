"""How often Python collects garbage: a pause stops every thread of a daemon, and costs a command more than what it frees.

This affects the whole process, so the owner of the process calls it: the command at its start, and again for a daemon when that is ready.
"""

import gc

__all__ = ["collect_rarely", "keep_pauses_short"]

_MOST_NEW = 1_500
"""How many new objects trigger a collection: 64 calls in flight have more than Python's 700, none of them garbage.

With 5,000, one call in a hundred waits 0.7 ms longer.
"""


_MOST_NEW_OF_COMMAND = 100_000  # a rulebook of 10,000 components is a million of them


def collect_rarely() -> None:
    """For a command, which ends soon: what it makes is needed until then."""
    gc.set_threshold(_MOST_NEW_OF_COMMAND)


def keep_pauses_short() -> None:
    """Exclude everything that exists now from later collections: it stays anyway, and going through it takes 30 ms or more.

    A second call adds what was made since. An excluded object that is no longer used is still freed, unless it is in a cycle.
    """
    gc.set_threshold(_MOST_NEW)
    gc.freeze()
