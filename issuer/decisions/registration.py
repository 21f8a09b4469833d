"""Decide which registration entries may be stored, beyond what cognomen.protocol.entry already checks of a single entry.

entitlement decides which nodes get a stored entry; changes decides what a change means to them.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import NamedTuple

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import is_issuer, is_reserved, node_id_of
from cognomen.protocol.printable import is_visible
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import EVERY_NODE, is_of_ours, never_match_together, never_matches
from cognomen.rulebook.compiling import GROUPS
from issuer.decisions.profile import ISSUER_DNS_NAME
from issuer.decisions.rulebooks import is_of_rulebook
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "MOST_ALIKE",
    "Alike",
    "alike",
    "changes",
    "check_entry",
    "check_no_twins",
    "created",
    "fingerprint",
    "is_group",
    "rivals",
    "too_many_alike",
    "unknown_parents",
    "updated",
    "without_parent",
]

MOST_ALIKE = 1000
"""How many entries of one parent may share their selectors before adding one gives a warning: 4 MiB hold some 2,000 SVIDs."""

_CHOSEN = tuple(one.name for one in fields(RegistrationEntry) if one.name not in {"id", "revision", "created_at"})
_BINARY_FACTS = ("path:", "sha256:")
_USER_FACTS = ("uid:", "user:")


class Alike(NamedTuple):
    """What makes entries match the same programs."""

    parent_id: SpiffeID
    selectors: frozenset[Selector]


def is_group(entry: RegistrationEntry) -> bool:
    """Whether this entry gives a set of nodes a SPIFFE ID, rather than a workload."""
    return is_issuer(entry.parent_id)


def check_entry(
    entry: RegistrationEntry,
    *,
    trust_domain: TrustDomain,
    node_attestors: Collection[str],
    now: datetime,
    strict: bool = False,
) -> tuple[str, ...]:
    """Check an entry on its own; returns warnings for its author.

    Args:
        node_attestors: their names, which are the types of the selectors that describe nodes.
        strict: what would be a warning of its selectors refuses it.

    Raises:
        Refused: INVALID; the detail names the field.
    """
    _check_ids(entry, trust_domain)
    if ISSUER_DNS_NAME in {name.lower().rstrip(".") for name in entry.dns_names}:
        raise Refused(Kind.INVALID, f"dns_names: expected no {ISSUER_DNS_NAME}, which is the issuer's own")
    if entry.expires_at is not None and entry.expires_at <= now:
        raise Refused(
            Kind.INVALID, f"expires_at: expected a time in the future, found {moment_in_words(entry.expires_at)}"
        )
    if entry.observe and is_group(entry):
        raise Refused(Kind.INVALID, "observe: expected false for a node group, found true")
    _check_visible(entry)
    _check_selectors(entry, node_attestors)
    doubts = () if is_group(entry) else tuple(_doubts(entry.selectors, node_attestors))
    if strict and doubts:
        raise Refused(Kind.INVALID, doubts[0], hint="it was checked strictly: without --strict, this is only a warning")
    return doubts


def _check_ids(entry: RegistrationEntry, trust_domain: TrustDomain) -> None:
    for field, spiffe_id in (("spiffe_id", entry.spiffe_id), ("parent_id", entry.parent_id)):
        if not spiffe_id.is_member_of(trust_domain):
            raise Refused(
                Kind.INVALID, f"{field}: expected the trust domain {trust_domain}, found {spiffe_id.trust_domain}"
            )
        if not spiffe_id.path:
            raise Refused(Kind.INVALID, f"{field}: expected a path, found {str(spiffe_id)!r}")
    if is_reserved(entry.spiffe_id):
        raise Refused(
            Kind.INVALID, f"spiffe_id: expected a path outside /cognomen and /spire, found {entry.spiffe_id.path!r}"
        )
    parent = entry.parent_id
    if is_reserved(parent) and not is_issuer(parent) and node_id_of(parent) is None:
        raise Refused(
            Kind.INVALID,
            f"parent_id: expected a node, a node group or the issuer, found {parent.path!r}",
            hint="list the nodes: cognomen node list",
        )
    if parent == entry.spiffe_id:
        raise Refused(Kind.INVALID, "parent_id: must differ from spiffe_id")


def _check_visible(entry: RegistrationEntry) -> None:
    """Refuse texts for people that show nothing; entries that are stored may have some."""
    labels = [("labels", text) for label in entry.labels.items() for text in label]
    for field, text in (("owner", entry.owner), ("hint", entry.hint), *labels):
        if text and not is_visible(text):
            shown = text.encode("unicode_escape").decode()
            raise Refused(Kind.INVALID, f"{field}: expected a text that shows something, found '{shown}'")


def _check_selectors(entry: RegistrationEntry, node_attestors: Collection[str]) -> None:
    for selector in sorted(entry.selectors):
        if is_group(entry) and selector.type not in node_attestors and selector != EVERY_NODE:
            expected = ", ".join(sorted(node_attestors))
            raise Refused(Kind.INVALID, f"selectors: expected node selectors ({expected}), found {str(selector)!r}")
        if expected := never_matches(selector):
            raise Refused(
                Kind.INVALID, f"selectors: expected {expected}, found {str(selector)!r}, which matches nothing"
            )
    if is_group(entry) and len(types := {selector.type for selector in entry.selectors}) > 1:
        found = " and ".join(sorted(types))
        raise Refused(
            Kind.INVALID,
            f"selectors: expected those of one node attestor, because a node has only these and all must match, found {found}",
        )
    if expected := never_match_together(entry.selectors):
        raise Refused(Kind.INVALID, f"selectors: expected {expected}")


def _doubts(selectors: frozenset[Selector], node_attestors: Collection[str]) -> Iterable[str]:
    """Warn of selectors that say less than their author may think."""
    if _has_fact(selectors, _BINARY_FACTS) and not _has_fact(selectors, _USER_FACTS):
        yield "selectors: unix:path and unix:sha256 separate programs of one uid by convention only; add unix:uid"
    foreign = sorted(selector for selector in selectors if not is_of_ours(selector))
    if any(selector.type in node_attestors for selector in foreign):
        yield "selectors: a node selector never matches a workload; use a node group as the parent"
    for selector in foreign:
        if selector.type not in node_attestors:
            yield (
                f"selectors: {str(selector)!r} matches only where an attestor has a plugin for {selector.type}; "
                "our own workload attestor writes unix"
            )


def _has_fact(selectors: Iterable[Selector], prefixes: tuple[str, ...]) -> bool:
    return any(selector.type == "unix" and selector.value.startswith(prefixes) for selector in selectors)


def unknown_parents(entries: Iterable[RegistrationEntry], known: Collection[SpiffeID]) -> tuple[str, ...]:
    """Warn of parents that are now neither a node nor a node group: their entries reach nobody until one exists."""
    unknown = {str(entry.parent_id) for entry in entries if entry.parent_id not in known and not is_group(entry)}
    return tuple(f"parent_id: no node or node group is {parent} yet" for parent in sorted(unknown))


def beside_rulebook(entries: Iterable[RegistrationEntry]) -> tuple[str, ...]:
    """Warn of entries below a node group of the rulebook that are not the rulebook's: they outlive the suspension of an agent."""
    parents = {
        entry.parent_id
        for entry in entries
        if entry.parent_id.path.startswith(f"{GROUPS}/") and not is_of_rulebook(entry.spiffe_id)
    }
    return tuple(
        f"parent_id: {parent.path} is a node group of the rulebook, and the entry is not the rulebook's:"
        " its programs keep this identity when their agent is suspended, and lose it if no rule has these nodes any more"
        for parent in sorted(parents, key=str)
    )


def without_parent(counted: Mapping[SpiffeID, int]) -> tuple[str, ...]:
    """Warn of entries whose node group a batch takes away: they stay, and reach nobody.

    Args:
        counted: how many entries have each as their parent, up to one more than `MOST_ALIKE`.
    """
    return tuple(
        f"{parent.path}: {_counted(count)} it as {'its' if count == 1 else 'their'} parent, and reach{'es' if count == 1 else ''} "
        "no node without it"
        for parent, count in counted.items()
        if count
    )


def _counted(count: int) -> str:
    if count == 1:
        return "1 entry has"
    return f"more than {MOST_ALIKE} entries have" if count > MOST_ALIKE else f"{count} entries have"


def too_many_alike(counted: Mapping[Alike, int]) -> tuple[str, ...]:
    """Warn of selectors that very many entries of a parent share: no Workload API message can hold all their SVIDs.

    Args:
        counted: how many entries share each.
    """
    return tuple(
        f"selectors: more than {MOST_ALIKE} entries of {alike.parent_id} have {', '.join(sorted(map(str, alike.selectors)))}; "
        "a program that matches them all gets only the oldest, as many as fit into 4 MiB"
        for alike, count in counted.items()
        if count > MOST_ALIKE
    )


def rivals(entry: RegistrationEntry, others: Iterable[RegistrationEntry]) -> Iterable[str]:
    """Warn of other entries for the same programs that are marked as default as well: only one of them can be."""
    for other in others:
        if other.default and other.id != entry.id and alike(other) == alike(entry):
            yield (
                f"default: {entry.spiffe_id.path} and {other.spiffe_id.path} have the same parent and selectors, and both are marked; "
                "the older one comes first"
            )


def created(entry: RegistrationEntry, *, entry_id: EntryID, now: datetime) -> RegistrationEntry:
    """Complete a new entry with the fields that the issuer sets."""
    return replace(entry, id=entry_id, revision=1, created_at=now)


def changes(entry: RegistrationEntry, stored: RegistrationEntry) -> bool:
    """Whether replacing a stored entry by this one changes anything that an operator chooses."""
    return any(getattr(entry, name) != getattr(stored, name) for name in _CHOSEN)


def updated(entry: RegistrationEntry, stored: RegistrationEntry) -> RegistrationEntry:
    """Complete an entry that replaces a stored one: the id and the creation time stay, the revision grows."""
    return replace(entry, id=stored.id, revision=stored.revision + 1, created_at=stored.created_at)


def alike(entry: RegistrationEntry) -> Alike:
    """Return which programs an entry matches."""
    return Alike(entry.parent_id, entry.selectors)


def fingerprint(entry: RegistrationEntry) -> bytes:
    """Hash what makes two entries the same: SPIFFE ID, parent and selectors.

    Shape: SHA-256 of the texts, each followed by a newline, which none of them contains
    """
    texts = (str(entry.spiffe_id), str(entry.parent_id), *sorted(map(str, entry.selectors)))
    return hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).digest()


def check_no_twins(entries: Iterable[RegistrationEntry]) -> None:
    """Refuse a batch in which two entries are the same.

    Raises:
        Refused: EXISTS
    """
    seen: set[bytes] = set()
    for entry in entries:
        name = fingerprint(entry)
        if name in seen:
            raise Refused(Kind.EXISTS, f"entry: expected each once, found {entry.spiffe_id} twice in the batch")
        seen.add(name)
