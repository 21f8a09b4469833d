"""Which registration entries may stand: what the issuer asks beyond what a single entry already knows (svid.entry).

Who gets a standing entry is decided in entitlement; what becomes of a change in changes.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.names import is_issuer, is_reserved, node_id_of
from issuer.decisions.profile import ISSUER_DNS_NAME
from svid.entry import EntryID, RegistrationEntry
from svid.selector import Selector
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "check_entry",
    "check_no_twins",
    "created",
    "fingerprint",
    "is_group",
    "unknown_parents",
    "updated",
]

_NODE_ATTESTORS = frozenset({"join_token"})
"""The types of selector that describe nodes."""

_NUMBER, _NAME = re.compile(r"0|[1-9][0-9]{0,9}"), re.compile(r".+")
_HIGHEST_NUMBER = 2**32 - 2  # of a uid or gid; the one above it means nobody
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


def is_group(entry: RegistrationEntry) -> bool:
    """Whether this entry gives a set of nodes a SPIFFE ID, rather than a workload."""
    return is_issuer(entry.parent_id)


def check_entry(entry: RegistrationEntry, *, trust_domain: TrustDomain, now: datetime) -> tuple[str, ...]:
    """Judge an entry by itself; the warnings are for whoever wrote it.

    Raises:
        Refused: INVALID, the detail names the field.
    """
    _check_ids(entry, trust_domain)
    if ISSUER_DNS_NAME in {name.lower().rstrip(".") for name in entry.dns_names}:
        raise Refused(Kind.INVALID, f"dns_names: expected no {ISSUER_DNS_NAME}, which is the issuer's own")
    if entry.expires_at is not None and entry.expires_at <= now:
        raise Refused(Kind.INVALID, f"expires_at: expected a moment to come, found {entry.expires_at.isoformat()}")
    if is_group(entry):
        foreign = sorted(str(selector) for selector in entry.selectors if selector.type not in _NODE_ATTESTORS)
        if foreign:
            expected = ", ".join(sorted(_NODE_ATTESTORS))
            raise Refused(Kind.INVALID, f"selectors: expected node selectors ({expected}), found {foreign[0]!r}")
        return ()
    return tuple(_warnings(entry))


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
            hint="nodes are listed by: cognomen node list",
        )
    if parent == entry.spiffe_id:
        raise Refused(Kind.INVALID, "parent_id: expected another ID than spiffe_id, found the same")


def _warnings(entry: RegistrationEntry) -> Iterable[str]:
    if entry.spiffe_id.is_below("/agent"):
        yield f"spiffe_id: {entry.spiffe_id.path} lies below /agent/, which will belong to the rulebook"
    if _has_fact(entry.selectors, _BINARY_FACTS) and not _has_fact(entry.selectors, _USER_FACTS):
        yield "selectors: unix:path and unix:sha256 separate programs of one uid by convention only; add unix:uid"
    if any(selector.type in _NODE_ATTESTORS for selector in entry.selectors):
        yield "selectors: a node selector never matches a workload; use a node group as the parent"
    for selector in sorted(entry.selectors):
        if selector.type == "unix" and not _is_unix_fact(selector.value):
            yield f"selectors: {str(selector)!r} never matches; the attestor writes {', '.join(_UNIX_FACTS)} as SPIRE does"


def _is_unix_fact(value: str) -> bool:
    name, _, fact = value.partition(":")
    if name not in _UNIX_FACTS or _UNIX_FACTS[name].fullmatch(fact) is None:
        return False
    return _UNIX_FACTS[name] is not _NUMBER or int(fact) <= _HIGHEST_NUMBER


def _has_fact(selectors: Iterable[Selector], prefixes: tuple[str, ...]) -> bool:
    return any(selector.type == "unix" and selector.value.startswith(prefixes) for selector in selectors)


def unknown_parents(entries: Iterable[RegistrationEntry], known: Collection[SpiffeID]) -> tuple[str, ...]:
    """Warn of parents that are no node and no node group now: their entries reach nobody until one comes."""
    unknown = {str(entry.parent_id) for entry in entries if entry.parent_id not in known and not is_group(entry)}
    return tuple(f"parent_id: no node or node group is {parent} yet" for parent in sorted(unknown))


def created(entry: RegistrationEntry, *, entry_id: EntryID, now: datetime) -> RegistrationEntry:
    """Complete a new entry with what the issuer gives it."""
    return replace(entry, id=entry_id, revision=1, created_at=now)


def updated(entry: RegistrationEntry, stored: RegistrationEntry) -> RegistrationEntry:
    """Complete an entry that takes a stored one's place: id and age stay, the revision grows."""
    return replace(entry, id=stored.id, revision=stored.revision + 1, created_at=stored.created_at)


def fingerprint(entry: RegistrationEntry) -> bytes:
    """Name what makes two entries the same: SPIFFE ID, parent and selectors.

    Shape: SHA-256 of the texts, each ended by a newline, which stands in none of them
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
