"""Files of users and groups in the place of this machine's, and acting as one of those users."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cognomen.process.localids import PrivateGroups

__all__ = ["ANA", "NO_GROUPS", "acting_as", "groups_of"]

NO_GROUPS = PrivateGroups(Path(os.devnull), Path(os.devnull))
"""Nothing is known of any group."""

ANA = 61_234
"""A uid, and the gid of its private group."""

_PASSWD = f"""root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534::/:/bin/false
ana:x:{ANA}:{ANA}:Ana:/home/ana:/bin/sh
"""
_GROUP = f"""root:x:0:
ana:x:{ANA}:
"""


def groups_of(directory: Path, *, passwd: str = _PASSWD, group: str = _GROUP) -> PrivateGroups:
    """Write passwd(5) and group(5) into a directory; by default of a user ana, as a system makes one."""
    for name, text in (("passwd", passwd), ("group", group)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)
    return PrivateGroups(directory / "passwd", directory / "group")


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be that user, in the group of the same number, for a block; for root only."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
