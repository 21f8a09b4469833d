"""Turn text from outside into one line of limited length, for records and logs: it must neither fill them nor forge lines in them."""

import unicodedata

__all__ = ["is_visible", "printable"]

_MOST = 256
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and a symbol that are drawn as nothing


def printable(text: str, *, most: int = _MOST) -> str:
    """Escape unprintable characters; cut off text that is too long, and say how long it was.

    Args:
        most: how many characters to keep.
    """
    if len(text) <= most and text.isprintable():
        return text
    escaped = "".join(map(_escaped, text[:most]))
    return escaped if max(len(text), len(escaped)) <= most else f"{escaped[:most]}… ({len(text)} characters)"


def is_visible(text: str) -> bool:
    """Whether a text shows anything: a character that is neither a space, nor a mark on another character, nor drawn as nothing."""
    return any(
        character.isprintable() and character not in _BLANKS and unicodedata.category(character)[0] not in {"M", "Z"}
        for character in text
    )


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
