"""Whether a task is at work, as it says itself: so that whoever watches sees that it does not get on."""

__all__ = ["Pulse"]


class Pulse:
    """One task's; it is at rest until the task says otherwise."""

    def __init__(self) -> None:
        self._turns = 0
        self._is_at_work = False

    @property
    def turn(self) -> int | None:
        """Which turn of its work the task is at; None: it is at rest."""
        return self._turns if self._is_at_work else None

    def work(self) -> None:
        """The task begins something that must end in time, or gets on with it."""
        self._turns += 1
        self._is_at_work = True

    def wake(self) -> None:
        """Somebody gives the task something to do."""
        if not self._is_at_work:
            self.work()

    def rest(self) -> None:
        """The task sleeps, or waits for others, as long as they like."""
        self._is_at_work = False
