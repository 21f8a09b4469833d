"""Texts that others chose in lines of ours: what could be taken for another part of its line is in quotation marks."""

import json

from cognomen.cli.cells import text_of
from cognomen.protocol.printable import unmistakable
from svid.encoding import JSON

__all__ = ["path_in_words", "plainly"]

_SEPARATORS = frozenset(';,"→')
_OF_PATHS = frozenset("/._-+@~%=")


def plainly(value: JSON) -> JSON:
    """A value whose texts show where they begin and end, and control no terminal."""
    match value:
        case str():
            text = text_of(value) if value else value
            return json.dumps(text, ensure_ascii=False) if _SEPARATORS & set(text) or text != value else text
        case list():
            return [plainly(one) for one in value]
        case dict():
            return {str(plainly(key)): plainly(one) for key, one in value.items()}
    return value


def path_in_words(path: str) -> str:
    """A path that somebody else chose, in a sentence: in quotation marks if it has a blank, a bracket or anything else that a sentence has.

    Everybody names his own programs, and nodes say of them what they like.
    """
    text = unmistakable(path, marks=True)
    is_plain = text.startswith("/") and all(one.isalnum() or one in _OF_PATHS for one in text)
    return text if is_plain or not text else json.dumps(text, ensure_ascii=False)
