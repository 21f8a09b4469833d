"""Decide which registration entries may be stored, beyond what cognomen.protocol.entry already checks of a single entry.

entitlement decides which nodes get a stored entry; changes decides what a change means to them.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import is_issuer, is_reserved, node_id_of
from cognomen.protocol.selector import Selector
from issuer.decisions.profile import ISSUER_DNS_NAME
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "MOST_ALIKE",
    "Alike",
    "alike",
    "check_entry",
    "check_no_twins",
    "created",
    "fingerprint",
    "is_group",
    "too_many_alike",
    "unknown_parents",
    "updated",
]

MOST_ALIKE = 1000
"""How many entries of one parent may share their selectors before adding one gives a warning: 4 MiB hold some 2,000 SVIDs."""

_NUMBER, _NAME = re.compile(r"0|[1-9][0-9]{0,9}"), re.compile(r".+")
_HIGHEST_NUMBER = 2**32 - 2  # of a uid or gid; the number above it means nobody
_UNIX_FACTS = {
    "uid": _NUMBER,
    "gid": _NUMBER,
    "supplementary_gid": _NUMBER,
    "user": _NAME,
    "group": _NAME,
    "supplementary_group": _NAME,
    "path": re.compile(r"/.*"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
}
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
    entry: RegistrationEntry, *, trust_domain: TrustDomain, node_attestors: Collection[str], now: datetime
) -> tuple[str, ...]:
    """Check an entry on its own; returns warnings for its author.

    Args:
        node_attestors: their names, which are the types of the selectors that describe nodes.

    Raises:
        Refused: INVALID; the detail names the field.
    """
    _check_ids(entry, trust_domain)
    if ISSUER_DNS_NAME in {name.lower().rstrip(".") for name in entry.dns_names}:
        raise Refused(Kind.INVALID, f"dns_names: expected no {ISSUER_DNS_NAME}, which is the issuer's own")
    if entry.expires_at is not None and entry.expires_at <= now:
        raise Refused(Kind.INVALID, f"expires_at: expected a time in the future, found {entry.expires_at.isoformat()}")
    if is_group(entry):
        foreign = sorted(str(selector) for selector in entry.selectors if selector.type not in node_attestors)
        if foreign:
            expected = ", ".join(sorted(node_attestors))
            raise Refused(Kind.INVALID, f"selectors: expected node selectors ({expected}), found {foreign[0]!r}")
        return ()
    for selector in sorted(entry.selectors):
        if selector.type == "unix" and _is_beyond(selector.value):
            raise Refused(
                Kind.INVALID,
                f"selectors: expected a user or group number of at most {_HIGHEST_NUMBER}, found {str(selector)!r}",
            )
    return tuple(_warnings(entry, node_attestors))


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


def _warnings(entry: RegistrationEntry, node_attestors: Collection[str]) -> Iterable[str]:
    if entry.spiffe_id.is_below("/agent"):
        yield f"spiffe_id: {entry.spiffe_id.path} is below /agent/, which will belong to the rulebook"
    if _has_fact(entry.selectors, _BINARY_FACTS) and not _has_fact(entry.selectors, _USER_FACTS):
        yield "selectors: unix:path and unix:sha256 separate programs of one uid by convention only; add unix:uid"
    if any(selector.type in node_attestors for selector in entry.selectors):
        yield "selectors: a node selector never matches a workload; use a node group as the parent"
    for selector in sorted(entry.selectors):
        if selector.type == "unix" and not _is_unix_fact(selector.value):
            yield f"selectors: {str(selector)!r} never matches; the attestor writes {', '.join(_UNIX_FACTS)} as SPIRE does"


def _is_unix_fact(value: str) -> bool:
    name, _, fact = value.partition(":")
    if name not in _UNIX_FACTS or _UNIX_FACTS[name].fullmatch(fact) is None:
        return False
    return _UNIX_FACTS[name] is not _NUMBER or int(fact) <= _HIGHEST_NUMBER


def _is_beyond(value: str) -> bool:
    """Whether it is a number that the kernel never gives to a user or group."""
    name, _, number = value.partition(":")
    is_number = _UNIX_FACTS.get(name) is _NUMBER and number.isascii() and number.isdigit()
    return is_number and int(number) > _HIGHEST_NUMBER  # at most 4,096 digits: cognomen/protocol/selector


def _has_fact(selectors: Iterable[Selector], prefixes: tuple[str, ...]) -> bool:
    return any(selector.type == "unix" and selector.value.startswith(prefixes) for selector in selectors)


def unknown_parents(entries: Iterable[RegistrationEntry], known: Collection[SpiffeID]) -> tuple[str, ...]:
    """Warn of parents that are now neither a node nor a node group: their entries reach nobody until one exists."""
    unknown = {str(entry.parent_id) for entry in entries if entry.parent_id not in known and not is_group(entry)}
    return tuple(f"parent_id: no node or node group is {parent} yet" for parent in sorted(unknown))


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


def created(entry: RegistrationEntry, *, entry_id: EntryID, now: datetime) -> RegistrationEntry:
    """Complete a new entry with the fields that the issuer sets."""
    return replace(entry, id=entry_id, revision=1, created_at=now)


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
