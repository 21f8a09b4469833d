"""Which selectors can match: what our attestors write as a selector, and what none of them ever writes.

A selector's text is decided in cognomen/protocol/selector. The facts are found by attestor/workloadattestor, labels of nodes come from
invites. A plugin may write selectors of other types, which nobody but it can judge.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from cognomen.protocol.printable import printable
from cognomen.protocol.selector import Selector

__all__ = [
    "EVERY_NODE",
    "LABEL_KEY",
    "UNIX_FACTS",
    "fact_with_one_value",
    "is_of_ours",
    "never_match_together",
    "never_matches",
]

LABEL_KEY = re.compile(r"[A-Za-z0-9._/-]{1,63}")
"""The keys of an invite's labels."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_HIGHEST_NUMBER = 2**32 - 2  # of a uid or gid; the number above it means nobody
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and int(text) <= _HIGHEST_NUMBER


def _is_path(text: str) -> bool:
    """Whether the kernel may report it as the path of an executable: absolute, and nothing in it is to be resolved."""
    root, *segments = text.split("/")
    return not root and bool(segments) and not {"", ".", ".."} & set(segments)


def _is_name(text: str) -> bool:
    """Whether the databases of users and groups can hold it: a colon ends a name there. Directory services allow much else."""
    return bool(text) and ":" not in text


_A_NUMBER = f"a number from 0 to {_HIGHEST_NUMBER} without leading zeros"
_UNIX: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "uid": (_is_number, _A_NUMBER),
    "gid": (_is_number, _A_NUMBER),
    "supplementary_gid": (_is_number, _A_NUMBER),
    "user": (_is_name, "a name without a colon"),
    "group": (_is_name, "a name without a colon"),
    "supplementary_group": (_is_name, "a name without a colon"),
    "path": (_is_path, "an absolute path without empty, . or .. segments"),
    "sha256": (lambda text: _SHA256.fullmatch(text) is not None, "64 digits 0-9 a-f"),
}

_ONE_OF_A_PROGRAM = frozenset({"uid", "gid", "user", "group", "path", "sha256"})  # of supplementary groups it has many

EVERY_NODE = Selector("node", "any")
"""What every node shows, for node groups of the rulebook that contain every node."""

UNIX_FACTS = tuple(_UNIX)
"""What the `unix` workload attestor writes, as SPIRE does."""


def is_of_ours(selector: Selector) -> bool:
    """Whether a workload attestor of ours writes selectors of that type; if not, a plugin may."""
    return selector.type == "unix"


def never_matches(selector: Selector) -> str:
    """Say what was expected instead of a selector that no program and no node can ever have; empty: it may match.

    Shape: "a number from 0 to 4294967294 without leading zeros", to go on with ", found …"
    """
    key, _, value = selector.value.partition(":")
    match selector.type:
        case "unix":
            if key not in _UNIX:
                return f"unix:FACT:VALUE with one of the facts {', '.join(UNIX_FACTS)}"
            fits, expected = _UNIX[key]
            return "" if fits(value) else expected
        case "join_token":
            name, _, text = value.partition(":")
            is_label = key == "label" and LABEL_KEY.fullmatch(name) is not None and bool(text)
            return "" if is_label else "join_token:label:KEY:VALUE, a label of an invite"
        case fact if fact in _UNIX:  # uid:1001
            return f"type:value, such as unix:{fact}:…"
    return ""


def never_match_together(selectors: Iterable[Selector]) -> str:
    """Say what was expected instead of selectors of one entry that no program and no node can have all; empty: they may match.

    Shape: "at most one unix:uid, because all selectors of an entry must match, found 'unix:uid:1' and 'unix:uid:2'"
    """
    known: dict[str, Selector] = {}
    for selector in sorted(selectors):
        fact = fact_with_one_value(selector)
        if fact and (other := known.setdefault(fact, selector)) != selector:
            found = " and ".join(repr(printable(str(one))) for one in (other, selector))
            return f"at most one {fact}, because all selectors of an entry must match, found {found}"
    return ""


def fact_with_one_value(selector: Selector) -> str:
    """The fact that a selector is about, if a program or a node has only one value of it; empty: it may have several, or we do not know."""
    key, _, value = selector.value.partition(":")
    match selector.type:
        case "unix" if key in _ONE_OF_A_PROGRAM:
            return f"unix:{key}"
        case "join_token" if key == "label":
            return f"join_token:label:{value.partition(':')[0]}"
    return ""
