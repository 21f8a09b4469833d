"""How the processes of a scene report: one line of JSON on standard output for each event, which cognomen/demo/scene reads."""

import json
import sys
from typing import Protocol

__all__ = ["Tell", "tell"]


class Tell(Protocol):
    """A function that reports an event and its facts."""

    def __call__(self, event: str, **facts: str | int) -> None:
        """Report it."""


def tell(event: str, **facts: str | int) -> None:
    """Report an event of this process; from any thread."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()
