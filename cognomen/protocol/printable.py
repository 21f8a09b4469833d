"""Turn text from outside into one line of limited length, for records and logs: it must neither fill them nor forge lines in them."""

__all__ = ["printable"]

_MOST = 256


def printable(text: str, *, most: int = _MOST) -> str:
    """Escape unprintable characters; cut off text that is too long, and say how long it was.

    Args:
        most: how many characters to keep.
    """
    if len(text) <= most and text.isprintable():
        return text
    escaped = "".join(map(_escaped, text[:most]))
    return escaped if max(len(text), len(escaped)) <= most else f"{escaped[:most]}… ({len(text)} characters)"


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
