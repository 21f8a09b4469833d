"""How far loads have come, so that what a test changes meanwhile can wait for them instead of for a time."""

from collections.abc import Sequence
from concurrent.futures import Future
from threading import Event

__all__ = ["Progress"]


class Progress:
    """How many requests each of several loads has finished."""

    def __init__(self, loads: int) -> None:
        self.made = [0] * loads

    def wait_for_all(self, running: Sequence["Future[int]"], *, more: int = 2) -> None:
        """Return when no request is left that began before: each load has finished two or `more`, or one of them has ended."""
        wanted = [made + more for made in self.made]
        while any(made < least for made, least in zip(self.made, wanted, strict=True)):
            if any(one.done() for one in running):
                return
            Event().wait(0.005)
