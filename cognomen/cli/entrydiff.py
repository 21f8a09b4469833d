"""The differences of two entries in words."""

from collections.abc import Mapping

from cognomen.cli.cells import with_unit
from svid.encoding import JSON

__all__ = ["in_words"]

_NOT_CHANGES = frozenset({"id", "revision", "created_at"})


def in_words(before: Mapping[str, JSON] | None, after: Mapping[str, JSON]) -> str:
    """The fields of an entry that changed: `owner: ann → bob`; of a new one (None), those that say something: `owner: bob`."""
    if before is None:
        said = [key for key in after if key not in _NOT_CHANGES and after[key] not in (None, "", [], {}, False)]
        return "; ".join(f"{key}: {_text(with_unit(key, after[key]))}" for key in said)
    keys = [key for key in {**before, **after} if key not in _NOT_CHANGES and before.get(key) != after.get(key)]
    both = ((key, *(_text(with_unit(key, each.get(key))) for each in (before, after))) for key in keys)
    return "; ".join(f"{key}: {old} → {new}" for key, old, new in both)


def _text(value: JSON) -> str:
    if value in (None, "", [], {}):
        return "-"
    match value:
        case list():
            return ", ".join(map(_text, value))
        case dict():
            return ", ".join(f"{key}={_text(item)}" for key, item in value.items())
        case bool():
            return "yes" if value else "no"
    return str(value)
