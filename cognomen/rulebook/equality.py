"""Whether a rulebook means what the entries meant from which it was made: read again as a file and compiled, not taken from memory.

Compared: on which nodes which selectors give which SPIFFE IDs, with which lifetimes, DNS names, audiences and callers, and
which of them only observe.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from cognomen.protocol.names import is_issuer
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import EVERY_NODE
from cognomen.rulebook.checks import check
from cognomen.rulebook.compiling import compiled
from cognomen.rulebook.faults import key_of
from cognomen.rulebook.placing import Placed
from cognomen.rulebook.reading import read
from cognomen.rulebook.rules import Nodes
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["differences"]

_FILE = "rulebook"


class _Shown(NamedTuple):
    """What a process and its node must show."""

    nodes: str
    selectors: frozenset[Selector]


class _Got(NamedTuple):
    """What it gets."""

    path: str
    x509_ttl: timedelta | None
    jwt_ttl: timedelta | None
    dns_names: tuple[str, ...]
    observe: bool

    def __str__(self) -> str:
        ttls = (("x509_ttl", self.x509_ttl), ("jwt_ttl", self.jwt_ttl))
        words = [f"{key} {ttl}" for key, ttl in ttls if ttl is not None]
        return " ".join((self.path, *words, *self.dns_names, *(["observe"] if self.observe else [])))


_Meaning = Mapping[_Shown, frozenset[_Got]]


def differences(text: str, placed: Sequence[Placed], trust_domain: TrustDomain) -> Iterator[str]:
    """Yield what the file says otherwise than the entries; nothing: they mean the same.

    What an import leaves to be written by people is no difference.
    """
    rulebook, faults = read({_FILE: text.encode()})
    for fault in faults:
        yield str(fault)
    for where, path, problem, _ in check(rulebook):
        yield f"{key_of((*where.path, *path))}: {problem}"
    if faults:
        return
    found = defaultdict[_Shown, set[_Got]](set)
    audiences: dict[str, frozenset[str]] = {}
    callers: dict[str, frozenset[str]] = {}
    groups: dict[SpiffeID, str] = {}
    for entry in compiled(rulebook, trust_domain):
        if is_issuer(entry.parent_id):
            groups[entry.spiffe_id] = _text(entry.selectors)
            continue
        shown = _Shown(groups.get(entry.parent_id, entry.parent_id.path), entry.selectors)
        its = entry.spiffe_id.path
        found[shown].add(_Got(its, entry.x509_svid_ttl, entry.jwt_svid_ttl, entry.dns_names, entry.observe))
        audiences[its] = frozenset(entry.audiences or ())
        callers[its] = frozenset(map(str, entry.callers or ()))
    yield from _compare(_meant(placed), found)
    yield from _compare_ids("audiences", [(one, one.entry.audiences) for one in placed], audiences, trust_domain)
    yield from _compare_ids("callers", [(one, one.entry.callers) for one in placed], callers, trust_domain)


def _meant(placed: Sequence[Placed]) -> _Meaning:
    meant = defaultdict[_Shown, set[_Got]](set)
    for one in placed:
        entry = one.entry
        shown = _Shown(_text_of(one.nodes), entry.selectors)
        meant[shown].add(_Got(f"/agent/{one.name}", entry.x509_ttl, entry.jwt_ttl, entry.dns_names, entry.observe))
    return {shown: frozenset(each) for shown, each in meant.items()}


def _text_of(nodes: Nodes) -> str:
    return nodes.path or _text(nodes.selectors or frozenset({EVERY_NODE}))


def _text(selectors: frozenset[Selector]) -> str:
    return " ".join(map(str, sorted(selectors)))


def _compare(meant: _Meaning, found: Mapping[_Shown, set[_Got]]) -> Iterator[str]:
    for shown in sorted({*meant, *found}, key=lambda one: (one.nodes, sorted(one.selectors))):
        expected, got = meant.get(shown, frozenset()), found.get(shown, set())
        if expected != got:
            words = [", ".join(sorted(map(str, each))) or "nothing" for each in (expected, got)]
            yield f"{_text(shown.selectors)} on {shown.nodes}: expected {words[0]}, found {words[1]}"


def _compare_ids(
    key: str,
    said: Sequence[tuple[Placed, tuple[str, ...] | None]],
    found: Mapping[str, frozenset[str]],
    trust_domain: TrustDomain,
) -> Iterator[str]:
    """Where the entries say it, the rulebook says the same; of renamed components, by their new names."""
    renamed = {
        str(one.entry.spiffe_id): str(SpiffeID(trust_domain=trust_domain, path=f"/agent/{one.name}")) for one, _ in said
    }
    for one, texts in said:
        if texts is None:
            continue
        meant = frozenset(renamed.get(each, each) for each in texts)
        if meant != (got := found.get(f"/agent/{one.name}", frozenset())):
            yield f"/agent/{one.name}: expected the {key} {sorted(meant)}, found {sorted(got)}"
