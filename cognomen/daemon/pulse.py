"""A task reports whether it is at work, so that the supervisor can see that it is stuck."""

__all__ = ["Pulse"]


class Pulse:
    """The pulse of one task; it is at rest until the task says otherwise."""

    def __init__(self) -> None:
        self._turns = 0
        self._is_at_work = False

    @property
    def turn(self) -> int | None:
        """The number of the task's current step; None: it is at rest."""
        return self._turns if self._is_at_work else None

    def work(self) -> None:
        """Note that the task begins something that must end in time, or makes progress with it."""
        self._turns += 1
        self._is_at_work = True

    def wake(self) -> None:
        """Note that somebody gave the task something to do."""
        if not self._is_at_work:
            self.work()

    def rest(self) -> None:
        """Note that the task sleeps, or waits for others without a limit."""
        self._is_at_work = False
