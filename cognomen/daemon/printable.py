"""Texts from outside as one bounded line, for records and logs: what somebody else wrote must neither fill them nor forge their lines."""

__all__ = ["printable"]

_MOST = 256


def printable(text: str, *, most: int = _MOST) -> str:
    """Escape what does not print, and cut what is too long, saying how long it was.

    Args:
        most: how many characters are kept.
    """
    if len(text) <= most and text.isprintable():
        return text
    escaped = "".join(map(_escaped, text[:most]))
    return escaped if max(len(text), len(escaped)) <= most else f"{escaped[:most]}… ({len(text)} characters)"


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
