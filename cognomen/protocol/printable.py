"""Turn text from outside into one line of limited length, for records and logs: it must neither fill them nor forge lines in them."""

import re
import unicodedata

__all__ = ["is_visible", "printable", "unmistakable"]

_MOST = 256
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # printable, and shown as nothing or as a blank
_UNSEEN = re.compile(rf"^ +| +$| (?= )|[{_BLANK}]")
_MOST_MARKS = 2  # that scripts put on one letter, beyond which they are a scribble over other lines


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
        character.isprintable() and character not in _BLANK and unicodedata.category(character)[0] not in {"M", "Z"}
        for character in text
    )


def unmistakable(text: str, *, marks: bool = False) -> str:
    """Escape also what is printable and can be taken for something else: blanks but single ones within the text, and stray marks.

    Two blanks could end a cell of a table. A combining mark alone belongs to what we print before it, and many of them cover it.

    Args:
        marks: escape every combining mark, also those that write a letter.
    """
    if text.isascii() and text.isprintable() and not _UNSEEN.search(text):
        return text
    found = _UNSEEN.sub(lambda blanks: "".join(map(_as_code, blanks[0])), "".join(map(_escaped, text)))
    if found.isascii():
        return found
    shown: list[str] = []
    count = 0 if not marks else _MOST_MARKS
    for character in found:
        if not unicodedata.category(character).startswith("M"):
            count = _MOST_MARKS if marks or character == " " else 0
            shown.append(character)
        elif shown and count < _MOST_MARKS:
            count += 1
            shown.append(character)
        else:
            shown.append(_as_code(character))
    return "".join(shown)


def _as_code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004 - how many digits fit


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
