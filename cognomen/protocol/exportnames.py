"""The names that operators give to the relying parties to which they export the bundle."""

import re

from cognomen.protocol.errors import Kind, Refused

__all__ = ["check_export_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_export_name(name: str) -> None:
    """Check that a name can be that of an export.

    Raises:
        Refused: INVALID
    """
    if not _NAME.fullmatch(name):
        raise Refused(
            Kind.INVALID,
            f"name: expected at most 64 of A-Z a-z 0-9 . _ -, a letter or digit first, found {name[:80]!r}",
        )
