"""When a task does what is due next, as it says itself: so that whoever watches sees that it does not."""

__all__ = ["Pulse"]


class Pulse:
    """One task's; it is at rest until the task says otherwise.

    Units: seconds of a monotonic clock, which nobody sets.
    """

    def __init__(self) -> None:
        self._due_at: float | None = None

    def due(self, at: float) -> None:
        """The task goes on then at the latest; now, while it is at work."""
        self._due_at = at

    def wake(self, now: float) -> None:
        """Somebody gives the task something to do: that is due now, if nothing was before."""
        if self._due_at is None:
            self._due_at = now

    def rest(self) -> None:
        """Nothing is due: the task waits for others, as long as they like."""
        self._due_at = None

    def overdue_seconds(self, now: float) -> float:
        """For how long the task has not done what is due."""
        return 0.0 if self._due_at is None else max(0.0, now - self._due_at)
