"""Read YAML that strangers wrote: the part of it that JSON can say, as Kubernetes takes it. Anchors, tags and duplicate keys are refused.

Words such as no and on are texts here, as in YAML 1.2; only true, false and null are not.
"""

import re
from collections.abc import Iterator

import yaml

from cognomen.protocol.printable import printable

__all__ = ["yaml_documents"]

_MOST_BYTES = 16 * 1024 * 1024
_MOST_DEPTH = 64
_MOST_SHOWN = 64
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?[0-9]{1,20}\.[0-9]{1,20}(?:[eE][-+]?[0-9]{1,3})?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_MERGE = "<<"


def yaml_documents(text: str) -> Iterator[object]:
    """The documents of a file, with dicts, lists, texts, whole numbers, floats, booleans and None; empty documents are left out.

    Raises:
        ValueError: not YAML, or what is refused here; the message names the line.
    """
    if len(text.encode()) > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes of YAML, found more")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from _documents(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as e:
        line = 0 if e.problem_mark is None else e.problem_mark.line + 1
        raise ValueError(f"line {line}: expected YAML: {e.problem}") from e
    except yaml.YAMLError as e:
        raise ValueError(f"expected YAML: {printable(str(e), most=_MOST_SHOWN)}") from e


def _documents(events: Iterator[yaml.Event]) -> Iterator[object]:
    """Build values without recursion: whoever writes the file decides how deep it is."""
    tree = _Tree()
    for event in events:
        _check(event)
        match event:
            case yaml.MappingStartEvent():
                tree.open({}, event)
            case yaml.SequenceStartEvent():
                tree.open([], event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                tree.close()
            case yaml.ScalarEvent():
                tree.add(_scalar(event), event)
            case yaml.DocumentEndEvent():
                if tree.root is not None:
                    yield tree.root
                tree = _Tree()


class _Tree:
    """One document while it is built."""

    def __init__(self) -> None:
        self.root: object = None
        self._open: list[dict[str, object] | list[object]] = []
        self._keys: list[str | None] = []

    def open(self, value: dict[str, object] | list[object], event: yaml.Event) -> None:
        """Begin a mapping or a list."""
        if len(self._open) == _MOST_DEPTH:
            raise _refused(event, f"expected at most {_MOST_DEPTH} levels of nesting, found more")
        self.add(value, event)
        self._open.append(value)
        self._keys.append(None)

    def close(self) -> None:
        """End it."""
        self._open.pop()
        self._keys.pop()

    def add(self, value: object, event: yaml.Event) -> None:
        """Put a value, or a key, where it belongs."""
        if not self._open:
            self.root = value
            return
        around = self._open[-1]
        if isinstance(around, list):
            around.append(value)
        elif (key := self._keys[-1]) is None:
            self._keys[-1] = _key(value, event, around)
        else:
            around[key] = value
            self._keys[-1] = None


def _key(value: object, event: yaml.Event, around: dict[str, object]) -> str:
    if isinstance(value, dict | list):
        raise _refused(event, "expected a text as the key, found a mapping or a list")
    text = event.value if isinstance(event, yaml.ScalarEvent) else ""
    if text == _MERGE:
        raise _refused(event, "merge keys are not taken")
    if text in around:
        raise _refused(event, f"the key {printable(text, most=_MOST_SHOWN)!r} is there twice")
    return text


def _scalar(event: yaml.ScalarEvent) -> object:
    text = event.value
    if not event.implicit[0]:  # quoted, or in a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _check(event: yaml.Event) -> None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise _refused(event, "anchors and aliases are not taken")
    tag = getattr(event, "tag", None)
    if tag and tag != "!":
        raise _refused(event, "tags are not taken")


def _refused(event: yaml.Event, problem: str) -> ValueError:
    mark = event.start_mark
    return ValueError(f"line {mark.line + 1}: {problem}" if mark is not None else problem)
