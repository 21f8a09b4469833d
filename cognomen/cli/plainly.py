"""Texts of operators in the lines of a plan: what could be taken for another part of its line is in quotation marks."""

import json

from cognomen.cli.cells import text_of
from svid.encoding import JSON

__all__ = ["plainly"]

_SEPARATORS = frozenset(';,"→')


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
