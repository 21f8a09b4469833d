"""Objects that replace their lock in a forked child, because a thread of the parent may have held it.

svid/workloadapi/forks does what gRPC, and so the sources, need around a fork.
"""

import os
import weakref
from typing import Protocol

__all__ = ["Renewable", "renew_in_children"]


class Renewable(Protocol):
    """Something with a lock."""

    def renew(self) -> None:
        """Start again in a child, without waiting for anybody."""


_all: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(one: Renewable) -> None:
    """Call `renew` of this object in each child that is forked while the object is in use."""
    _all.add(one)


def _renew_all() -> None:
    for one in list(_all):
        one.renew()


os.register_at_fork(after_in_child=_renew_all)
