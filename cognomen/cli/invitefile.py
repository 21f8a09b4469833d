"""Read an invite that a user names on the command line: a file, or standard input."""

import sys
from pathlib import Path

from cognomen.process.privatefile import read_given
from cognomen.protocol.errors import FileRefused, Kind, Refused
from cognomen.protocol.invite import MAX_BYTES, Invite, is_like_invite

__all__ = ["load_invite"]

_MAKE_ONE = "make one on the issuer's machine: cognomen node invite --write FILE"
_AS_A_FILE = "other users can see arguments: write it to a file that only you can read, and name that file; or pipe it to --invite -"


def load_invite(source: str) -> Invite:
    """Read an invite from standard input, if the source is `-`, or from a file.

    Raises:
        Refused: INVALID for anything that is not an invite, and for a file that others may read, or could have written; NOT_FOUND when
            there is no such file; UNAVAILABLE when the system refuses to read it.
    """
    if not source:
        raise Refused(Kind.INVALID, "invite: expected a path or -, found an empty string")
    if is_like_invite(source):  # it holds a secret: it must not be repeated as the path of a file that does not exist
        raise Refused(Kind.INVALID, "invite: expected a path or -, found the invite itself", hint=_AS_A_FILE)
    if source == "-":
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    else:
        try:
            data = read_given(Path(source), "invite", max_bytes=MAX_BYTES)
        except Refused as e:
            if e.kind is not Kind.NOT_FOUND:
                raise
            raise FileRefused(e.kind, e.detail, hint=_MAKE_ONE) from e
    return Invite.parse(data.decode(errors="replace"))
