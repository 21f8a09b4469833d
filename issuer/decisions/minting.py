"""What one item of a mint must satisfy: the entry is this node's, the key is usable and nobody else's.

What is then signed is decided in profile; which parents a node has in entitlement; how many audiences in cognomen/daemon/audiences.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.audit import NodeID
from issuer.decisions.entitlement import is_entitled
from svid.entry import MAX_ENTRY_ID_BYTES, EntryID, RegistrationEntry
from svid.errors import UnusableKeyError
from svid.keys import KeyKind, PublicKey, kind_of, public_key_from_der
from svid.spiffeid import SpiffeID

__all__ = [
    "check_batch",
    "check_entitled",
    "check_entry_id",
    "check_holder",
    "parse_key",
    "shared_keys",
]

_MAX_ITEMS = 1000
_MAX_KEY_BYTES = 1024
_CERTIFIED_KINDS = frozenset({KeyKind.EC_P256, KeyKind.EC_P384})
"""The kinds of key that we certify for nodes and workloads."""

Holder = tuple[EntryID | None, NodeID | None]
"""Under what a key was certified: an entry on a node, or (None, node) for the node's own."""


def check_batch(size: int) -> None:
    """Bound a batch as a whole.

    Raises:
        Refused: INVALID
    """
    if not 1 <= size <= _MAX_ITEMS:
        raise Refused(Kind.INVALID, f"items: expected 1 to {_MAX_ITEMS}, found {size}")


def check_entry_id(entry_id: EntryID) -> None:
    """Bound what an item names its entry by, which is kept in memory for a while.

    Raises:
        Refused: INVALID
    """
    if len(entry_id) > MAX_ENTRY_ID_BYTES:
        raise Refused(
            Kind.INVALID, f"entry_id: expected at most {MAX_ENTRY_ID_BYTES} characters, found {len(entry_id)}"
        )


def parse_key(der: bytes) -> PublicKey:
    """Parse a public key that somebody wants certified.

    Raises:
        Refused: INVALID, for another type or curve than we certify.
    """
    if len(der) > _MAX_KEY_BYTES:
        raise Refused(Kind.INVALID, f"public_key: expected at most {_MAX_KEY_BYTES} bytes, found {len(der)}")
    try:
        key = public_key_from_der(der)
    except UnusableKeyError as e:
        raise Refused(Kind.INVALID, f"public_{e}") from e
    if kind_of(key) not in _CERTIFIED_KINDS:
        raise Refused(
            Kind.INVALID, f"public_key: expected {' or '.join(sorted(_CERTIFIED_KINDS))}, found {kind_of(key)}"
        )
    return key


def check_entitled(
    entry: RegistrationEntry | None, parents: Collection[SpiffeID], *, now: datetime
) -> RegistrationEntry:
    """Let a node with these parents mint for this entry; an unknown one and somebody else's are refused alike.

    Raises:
        Refused: DENIED
    """
    if entry is None or entry.parent_id not in parents:
        raise Refused(Kind.DENIED, "entry_id: expected an entry of this node, found none")
    if not is_entitled(entry, parents, now=now):
        raise Refused(Kind.DENIED, "entry_id: expected an entry that is not over, found one that is")
    return entry


def check_holder(known: Holder | None, wanted: Holder) -> None:
    """Refuse a key that the ledger knows under something else: one key proves one identity on one node.

    Raises:
        Refused: DENIED
    """
    if known is not None and known != wanted:
        raise Refused(Kind.DENIED, "public_key: expected a new key, found one certified for another entry or node")


def shared_keys(items: Iterable[tuple[EntryID, str]]) -> frozenset[str]:
    """The hashes of keys that one batch names under more than one entry.

    Args:
        items: entry and key hash of each item.
    """
    entries: defaultdict[str, set[EntryID]] = defaultdict(set)
    for entry_id, key_hash in items:
        entries[key_hash].add(entry_id)
    return frozenset(key_hash for key_hash, ids in entries.items() if len(ids) > 1)
