"""The entries of `cognomen dev`: create those that are requested, and delete those of an earlier run that no longer are.

An entry that somebody made with `cognomen entry create` is left alone: dev recognizes its own by their label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cognomen.cli.admin import Admin, pages
from cognomen.cli.output import warn
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector
from cognomen.wire.node import entry_from_pb, entry_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.spiffeid import SpiffeID

__all__ = ["Identity", "ensure_entries", "node_of_entries"]

_LABELS = {"cognomen-dev": "true"}
_Key: TypeAlias = tuple[SpiffeID, SpiffeID, frozenset[Selector]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A requested identity: a path, and the selectors that prove it."""

    path: str
    selectors: frozenset[Selector]


def ensure_entries(admin: Admin, node: SpiffeID, identities: Sequence[Identity]) -> int:
    """Create and delete entries; returns the change number that the node must reach, 0 if nothing changed."""
    wanted = {_key(one): one for one in (_entry(identity, node) for identity in identities)}
    there = _entries(admin)
    change = 0
    gone = [one.id for one in there if one.labels == _LABELS and _key(one) not in wanted]
    if gone:
        change = admin.delete_entries(pb.DeleteEntriesRequest(ids=gone)).change
    known = set(map(_key, there))
    for key, one in wanted.items():
        if key not in known:  # one by one, in this order: a workload's default identity is its oldest entry
            created = admin.create_entries(pb.EntriesRequest(entries=[entry_to_pb(one)]))
            for text in created.warnings:
                warn(f"{one.spiffe_id.path}: {text.removeprefix('entries[0]: ')}")
            change = created.change
    return change


def node_of_entries(admin: Admin) -> pb.Node | None:
    """The node for which an earlier run, or this one, made the entries; None if there is no such node."""
    parents = {one.parent_id for one in _entries(admin) if one.labels == _LABELS}
    for parent in parents:
        try:
            return admin.get_node(pb.GetNodeRequest(id=str(parent)))
        except Refused as e:
            if e.kind is not Kind.NOT_FOUND:
                raise
    return None


def _entries(admin: Admin) -> list[RegistrationEntry]:
    found = pages(admin.list_entries, pb.ListEntriesRequest(), every=True)
    return [entry_from_pb(one) for page in found for one in page.entries]


def _entry(identity: Identity, node: SpiffeID) -> RegistrationEntry:
    return RegistrationEntry(
        spiffe_id=SpiffeID(trust_domain=node.trust_domain, path=identity.path),
        parent_id=node,
        selectors=identity.selectors,
        labels=_LABELS,
    )


def _key(entry: RegistrationEntry) -> _Key:
    return entry.spiffe_id, entry.parent_id, entry.selectors
