"""The names by which people know nodes: what an operator may choose, and what a node is called if its own name is unfit or taken.

A name is for people and never decides anything: the node's id does that. The transaction that gives a name checks that it is free.
"""

import re
from collections.abc import Iterator

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import MAX_NODE_NAME_BYTES, NODE_NAME_RULE, NodeID, is_node_name

__all__ = ["check_name", "looks_like_id", "names_for", "posed_as"]

_LIKE_AN_ID = re.compile(r"[0-9a-f]{4,}", re.IGNORECASE)
_WORD = re.compile(r"[._-]")
_SHORT = 8
_MOST_NUMBERED = 100  # each costs a look in the store


def check_name(name: str) -> None:
    """Check a name that an operator chose.

    Raises:
        Refused: INVALID
    """
    if not is_node_name(name):
        raise Refused(
            Kind.INVALID,
            f"name: expected {NODE_NAME_RULE}, found {name[:80]!r}",
        )


def looks_like_id(name: str) -> bool:
    """Whether people could take this name for the beginning of another node's id."""
    return _LIKE_AN_ID.fullmatch(name) is not None


def posed_as(name: str) -> str:
    """The beginning of an id for which people could take this name whatever follows it (`65995ced-2`); empty: there is none."""
    word = _WORD.split(name, maxsplit=1)[0].lower()
    return word if len(word) >= _SHORT and looks_like_id(word) else ""


def names_for(asked: str, node_id: NodeID) -> Iterator[str]:
    """What the node may be called, the best first; one of them is free, or the node has no name.

    Args:
        asked: the name that it gave itself; if that is unfit or empty, its short id is used: the first 8 characters of its id.
    """
    name = asked if is_node_name(asked) else node_id[:_SHORT]
    yield name
    for number in range(2, _MOST_NUMBERED + 1):
        ending = f"-{number}"
        yield name[: MAX_NODE_NAME_BYTES - len(ending)] + ending
    yield node_id[:MAX_NODE_NAME_BYTES]
