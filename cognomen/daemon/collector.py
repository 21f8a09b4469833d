"""Keep the pauses short in which Python looks for cyclic garbage: it stops every thread of the process meanwhile.

For a whole process, so whoever owns the process calls it: the command, before it runs a daemon.
"""

import gc

__all__ = ["keep_pauses_short"]

_MOST_NEW = 1_500
"""How many more objects than at the last look: 64 calls in flight are more than Python's 700, none of them garbage.

With 5,000, one call in a hundred waits 0.7 ms longer.
"""


def keep_pauses_short() -> None:
    """Leave what is loaded by now out of every later look: it stays anyway, and to go through it takes 30 ms and more."""
    gc.set_threshold(_MOST_NEW)
    gc.freeze()
