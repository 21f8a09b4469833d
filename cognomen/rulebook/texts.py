"""The forms of texts in a rulebook, which go into names, entries, tables and records, and are shown to people."""

import re
from datetime import timedelta

from cognomen.protocol.audiences import check_audiences
from cognomen.protocol.durations import format_duration, parse_duration
from cognomen.protocol.errors import Refused
from cognomen.protocol.printable import is_visible
from cognomen.protocol.selector import Selector
from cognomen.rulebook.faults import Tell, shown
from cognomen.rulebook.places import Path
from svid.errors import SVIDError

__all__ = ["NAME", "check_audience", "check_name", "check_text", "check_type", "read_length"]

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
"""The name of an agent, a component or a provider."""

_NAME_RULE = "expected 1 to 63 of a-z 0-9 . _ -, a letter or digit first and last"


def check_name(name: str, path: Path, tell: Tell) -> bool:
    """Check a name, and return whether it is one."""
    if NAME.fullmatch(name):
        return True
    tell(path, f"name: {_NAME_RULE}, found {shown(name)}", "")
    return False


def check_text(text: str, path: Path, tell: Tell) -> None:
    """Check a text for people: it goes into entries, tables and records."""
    if len(text.encode()) > 256 or not text.isprintable() or not is_visible(text) or text != text.strip():  # noqa: PLR2004
        tell(path, f"expected at most 256 bytes of printable text that shows something, found {shown(text)}", "")


def read_length(text: str, path: Path, tell: Tell, *, most: timedelta) -> timedelta | None:
    """A length of time from 1s to `most`; None: it is not one."""
    try:
        length = parse_duration(text)
    except ValueError as e:
        tell(path, str(e), "")
        return None
    if not timedelta() < length <= most:
        tell(path, f"expected 1s to {format_duration(most)}, found {shown(text)}", "")
        return None
    return length


def check_audience(text: str, path: Path, tell: Tell) -> None:
    """Check an audience that only a test has."""
    try:
        check_audiences([text], field="audience")
    except Refused as refused:
        tell(path, refused.detail.removeprefix("audience: "), "")


def check_type(text: str, path: Path, tell: Tell) -> None:
    """Check a type of selectors."""
    try:
        Selector(text, "x")
    except SVIDError as e:
        tell(path, str(e).removeprefix("selector: "), "")
