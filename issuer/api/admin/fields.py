"""Read the fields that several requests have."""

import re
from enum import StrEnum
from typing import TypeVar

from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.node import spiffe_id_from_pb
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "MAX_NUMBER",
    "choice",
    "entry_token",
    "invalid_token",
    "is_made_id",
    "number",
    "own_spiffe_id",
    "page_size",
    "yes_or_no",
]

MAX_NUMBER = 2**63 - 1
"""The largest number that a store can keep."""

_MADE_ID = re.compile("[0-9a-f]{32}")

_Choice = TypeVar("_Choice", bound=StrEnum)


def choice(kind: type[_Choice], text: str, field: str) -> _Choice | None:
    """Read one of several words; empty: any.

    Raises:
        Refused: INVALID
    """
    try:
        return kind(text) if text else None
    except ValueError as e:
        raise Refused(Kind.INVALID, f"{field}: expected one of {', '.join(kind)}, found {text!r}") from e


def yes_or_no(text: str, field: str) -> bool | None:
    """Read yes or no; empty: any.

    Raises:
        Refused: INVALID
    """
    if text not in {"", "yes", "no"}:
        raise Refused(Kind.INVALID, f"{field}: expected yes, no or nothing, found {text!r}")
    return None if not text else text == "yes"


def page_size(asked: int, *, default: int = 100, most: int = 1000) -> int:
    """Read the maximum length of a page; 0: the default.

    Raises:
        Refused: INVALID
    """
    if asked > most:
        raise Refused(Kind.INVALID, f"page_size: expected at most {most}, found {asked}")
    return asked or default


def number(token: str) -> int:
    """Read the page token of a list in the order of numbers; empty: from the start.

    Raises:
        Refused: INVALID
    """
    if token and not (token.isascii() and token.isdigit() and len(token) <= 18):  # noqa: PLR2004 - fits SQLite's integers
        raise invalid_token()
    return int(token or 0)


def entry_token(token: str) -> str:
    """Read the page token of a list in the order of entries' ids; empty: from the start.

    Raises:
        Refused: INVALID
    """
    if token and not is_made_id(token):
        raise invalid_token()
    return token


def is_made_id(text: str) -> bool:
    """Whether we could have made that id, of an entry or a node."""
    return _MADE_ID.fullmatch(text) is not None


def invalid_token() -> Refused:
    """The refusal of a page token that we did not give."""
    return Refused(Kind.INVALID, "page_token: invalid, use the one from an earlier page")


def own_spiffe_id(text: str, field: str, trust_domain: TrustDomain) -> SpiffeID | None:
    """Read a SPIFFE ID that can exist here; empty: any.

    Raises:
        Refused: INVALID, also for one of another trust domain: the answer would be empty whatever is stored.
    """
    try:
        found = spiffe_id_from_pb(text, field) if text else None
    except SVIDError as e:
        raise Refused(Kind.INVALID, str(e)) from e
    if found is not None and not found.is_member_of(trust_domain):
        raise Refused(Kind.INVALID, f"{field}: expected one of {trust_domain}, found {found}")
    return found
