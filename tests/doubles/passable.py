"""A directory that programs of every uid may pass through, for tests that become somebody else."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["passable_directory"]


@contextmanager
def passable_directory() -> Iterator[Path]:
    """Make it, and remove it at the end.

    Pytest's `tmp_path` will not do: every start of pytest by the same user closes the directory above it to others, also amidst this test.
    """
    with tempfile.TemporaryDirectory(prefix="cognomen-") as made:
        directory = Path(made).resolve()
        for one in (directory, *directory.parents):
            if one.stat().st_uid == os.geteuid() and one != Path("/"):
                one.chmod(one.stat().st_mode | 0o011)
        yield directory
