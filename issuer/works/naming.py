"""What operators mean by a text in place of an id: an id, the beginning of one, a SPIFFE ID or its path, or the name of a node.

An exact id means only itself. A name that is also the beginning of another node's id can mean both. A SPIFFE ID means the entries that have
it. Only if there are none, it means those that are gone and once had it, and never an entry that has another one now: what is done to that
entry would not be what was asked.
Everything else is read through an index: ids that begin with a text follow it in their order.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import assert_never

from cognomen.protocol.entry import EntryID
from cognomen.protocol.meaning import LEAST_CHARACTERS, MOST_MEANINGS, Meaning, Nameable
from cognomen.protocol.names import NodeID, node_id_of
from issuer.datastore.port import Transaction
from issuer.decisions.filters import EntryFilter
from svid.errors import SpiffeIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["meanings_in"]


def meanings_in(
    tx: Transaction, kind: Nameable, text: str, trust_domain: TrustDomain, *, with_past: bool
) -> Sequence[Meaning]:
    """What a text can mean, at most 11 things; one with that very id is the only one.

    Args:
        with_past: also entries and nodes that are gone, but on record.
    """
    match kind:
        case Nameable.ENTRY:
            found = _entries(tx, text, trust_domain, with_past=with_past)
        case Nameable.NODE:
            found = _nodes(tx, text, trust_domain, with_past=with_past)
        case Nameable.CREDENTIAL:
            found = tx.ids.credentials(text, limit=MOST_MEANINGS) if _is_enough(text) else ()
        case Nameable.AUTHORITY:
            known = (Meaning(id=one.key_id) for one in tx.authorities.list())
            found = [one for one in known if one.id.startswith(text) and _is_enough(text)]
        case _:
            assert_never(kind)
    exact = [one for one in found if one.id == text]
    return (exact or found)[:MOST_MEANINGS]


def _entries(tx: Transaction, text: str, trust_domain: TrustDomain, *, with_past: bool) -> Sequence[Meaning]:
    if (named := _spiffe_id(text, trust_domain)) is not None:
        same = tx.entries.find(EntryFilter(spiffe_id=named), after="", limit=MOST_MEANINGS)
        if with_past and not same:
            return tx.ids.deleted_entries(named, limit=MOST_MEANINGS)
        return [Meaning(id=one.id, spiffe_id=str(one.spiffe_id)) for one in same]
    found = list(tx.entries.get([EntryID(text)]).values())
    if _is_enough(text) and not found:
        following = tx.entries.find(EntryFilter(), after=text, limit=MOST_MEANINGS)
        found = list(takewhile(lambda one: one.id.startswith(text), following))
    live = [Meaning(id=one.id, spiffe_id=str(one.spiffe_id)) for one in found]
    past = tx.ids.entries(text, limit=MOST_MEANINGS) if with_past and _is_enough(text) else ()
    return _joined(live, past)


def _nodes(tx: Transaction, text: str, trust_domain: TrustDomain, *, with_past: bool) -> Sequence[Meaning]:
    if (meant := _spiffe_id(text, trust_domain)) is not None:
        same = _nodes(tx, node_id_of(meant) or "", trust_domain, with_past=with_past)
        same = [one for one in same if one.spiffe_id.startswith(str(meant))]
        return [one for one in same if one.spiffe_id == str(meant)] or same
    exact = tx.nodes.get(NodeID(text))
    found = [] if exact is None else [exact]
    if _is_enough(text) and not found:
        following = tx.nodes.find(after=text, limit=MOST_MEANINGS)
        found = list(takewhile(lambda one: one.id.startswith(text), following))
    named = tx.nodes.named(text)
    if named is not None and named.id not in {one.id for one in found}:
        found.append(named)
    live = [Meaning(id=one.id, spiffe_id=str(one.spiffe_id)) for one in found]
    past = tx.ids.nodes(text, limit=MOST_MEANINGS) if with_past and _is_enough(text) else ()
    return _joined(live, past)


def _joined(live: Sequence[Meaning], past: Sequence[Meaning]) -> Sequence[Meaning]:
    known = {one.id for one in live}
    return [*live, *(one for one in past if one.id not in known)]


def _is_enough(text: str) -> bool:
    return len(text) >= LEAST_CHARACTERS


def _spiffe_id(text: str, trust_domain: TrustDomain) -> SpiffeID | None:
    try:
        return SpiffeID(trust_domain=trust_domain, path=text) if text.startswith("/") else SpiffeID.parse(text)
    except SpiffeIDError:
        return None
