"""A hint leads somewhere: its command is typed as a person would."""

import shlex
import subprocess

__all__ = ["typed"]


def typed(hint: str) -> None:
    """Run the command of a hint, which is all of it, or what stands behind its last colon.

    Raises:
        CalledProcessError: it fails.
    """
    subprocess.run(shlex.split(hint.rpartition(": ")[2]), check=True, timeout=30)
