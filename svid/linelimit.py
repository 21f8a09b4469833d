"""Rate limits for log lines: the first line about each subject comes at once, then one a minute, with the number of lines left out.

Use one LineLimit for each kind of line, so that one kind cannot use up the room of another. It is pure: the caller passes the moment in.
"""

import math
from dataclasses import dataclass

__all__ = ["LineLimit"]

_SECONDS = 60.0


@dataclass(slots=True)
class _Line:
    due_at: float = -math.inf
    left_out: int = 0


class LineLimit:
    """Limits the lines for at most `most` subjects; all further subjects share one limit. Use it from one thread at a time.

    Args:
        most: how many subjects have a limit of their own.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._lines: dict[str, _Line] = {}
        self._others = _Line()

    def left_out(self, who: str, now: float, *, times: int = 1) -> int | None:
        """Return how many lines about `who` were left out before this one; None if this line must be left out as well.

        Args:
            times: how many equal lines this one represents.

        Units: `now` is seconds of a clock that nobody sets.
        """
        line = self._line(who, now)
        if now < line.due_at:
            line.left_out += times
            return None
        line.due_at = now + _SECONDS
        left_out, line.left_out = line.left_out + times - 1, 0
        return left_out

    def _line(self, who: str, now: float) -> _Line:
        if who not in self._lines and len(self._lines) >= self._most:
            for known, line in list(self._lines.items()):
                if line.due_at <= now:
                    self._others.left_out += line.left_out
                    del self._lines[known]
            if len(self._lines) >= self._most:
                return self._others
        return self._lines.setdefault(who, _Line())
