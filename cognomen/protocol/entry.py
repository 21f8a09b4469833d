"""Registration entries: which workload gets which identity. Here are the rules that can be checked on one entry alone.

What an entry may claim in a trust domain (its ID, its parent, reserved paths) is decided in issuer/decisions/registration.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NewType

from cognomen.protocol.audiences import MAX_AUDIENCE_BYTES
from cognomen.protocol.selector import Selector
from svid.encoding import JSON
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "LEFT_OUT",
    "MAX_CALLERS",
    "MAX_CALLERS_BYTES",
    "MAX_ENTRY_ID_BYTES",
    "MAX_HINT_BYTES",
    "MAX_LABELS",
    "MAX_LABEL_BYTES",
    "MAX_TTL",
    "EntryError",
    "EntryID",
    "RegistrationEntry",
    "entry_to_document",
]

EntryID = NewType("EntryID", str)
"""The name of an entry, unique in its issuer."""

MAX_TTL = timedelta(days=1)
MAX_ENTRY_ID_BYTES = 255
MAX_LABELS = 64
"""How many labels an entry or a node may have."""

MAX_LABEL_BYTES = 256
"""The maximum length of a label's value; of an entry's label also of its key."""

MAX_HINT_BYTES = 1024

MAX_CALLERS = 1024
"""How many SPIFFE IDs may be declared as callers of an entry's identity."""

MAX_CALLERS_BYTES = 256 * 1024
"""The maximum length of all of them together: an entry must fit in a message of the feed."""

LEFT_OUT: Mapping[str, JSON] = MappingProxyType(
    {"default": False, "audiences": None, "callers": None, "observe": False}
)
"""What the audit record leaves out of an entry: rows of earlier releases do not have it, and an unchanged entry must keep its digest."""

_MAX_SELECTORS = 100
_MAX_DNS_NAMES = 64
_MAX_DNS_NAME_BYTES = 253
_MAX_OWNER_BYTES = 256
_MAX_AUDIENCES = 256
_ENTRY_ID = re.compile(rf"[a-zA-Z0-9._-]{{0,{MAX_ENTRY_ID_BYTES}}}")
_DNS_LABEL = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")


class EntryError(SVIDError):
    """A registration entry that breaks a rule; the message begins with the field's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationEntry:
    """Gives `spiffe_id` to the workloads that show all these selectors, on a node that is `parent_id` or belongs to it.

    Attributes:
        id: empty: the issuer chooses one.
        x509_svid_ttl, jwt_svid_ttl: None: the issuer's default.
        federates_with, admin, downstream, store_svid: refused until they exist.
        expires_at: from then on the entry has no effect; None: it does not expire.
        hint: helps the workload to tell its identities apart.
        default: comes before entries without it: a program's first identity is the one that it uses if it does not choose.
        owner, labels: for people; they decide nothing.
        audiences: all that its JWT-SVIDs may be for, sorted; None: they may be for anybody.
        callers: who may call it, sorted by their texts; it decides nothing here, and its service asks for it. None: not declared.
        observe: nothing is issued for it; what would have been is reported (ADR-0031).

    Raises:
        EntryError: a field has a value that no entry can have; the message begins with the field's name.
    """

    id: EntryID = EntryID("")
    spiffe_id: SpiffeID
    parent_id: SpiffeID
    selectors: frozenset[Selector]
    x509_svid_ttl: timedelta | None = None
    jwt_svid_ttl: timedelta | None = None
    federates_with: tuple[TrustDomain, ...] = ()
    admin: bool = False
    downstream: bool = False
    expires_at: datetime | None = None
    dns_names: tuple[str, ...] = ()
    revision: int = 0
    store_svid: bool = False
    hint: str = ""
    created_at: datetime | None = None
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    default: bool = False
    audiences: tuple[str, ...] | None = None
    callers: tuple[SpiffeID, ...] | None = None
    observe: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        if not _ENTRY_ID.fullmatch(self.id):
            raise EntryError(
                f"id: expected at most {MAX_ENTRY_ID_BYTES} characters a-z A-Z 0-9 . - _, found {self.id!r}"
            )
        if not 1 <= len(self.selectors) <= _MAX_SELECTORS:
            raise EntryError(f"selectors: expected 1 to {_MAX_SELECTORS}, found {len(self.selectors)}")
        if self.revision < 0:
            raise EntryError(f"revision: expected 0 or more, found {self.revision}")
        _check_unbuilt(self)
        _check_ttl("x509_svid_ttl", self.x509_svid_ttl)
        _check_ttl("jwt_svid_ttl", self.jwt_svid_ttl)
        _check_moment("expires_at", self.expires_at)
        _check_moment("created_at", self.created_at)
        _check_dns_names(self.dns_names)
        _check_text("hint", self.hint, MAX_HINT_BYTES)
        _check_text("owner", self.owner, _MAX_OWNER_BYTES)
        _check_labels(self.labels)
        _check_audiences(self.audiences)
        _check_callers(self.callers)

    def allows(self, audiences: Collection[str]) -> bool:
        """Whether its JWT-SVIDs may be for all of these."""
        return self.audiences is None or set(audiences) <= set(self.audiences)

    def allows_less_than(self, before: "RegistrationEntry") -> bool:
        """Whether some JWT-SVID of the entry as it was may not be signed for this one, because of its audience."""
        return self.audiences is not None and (before.audiences is None or not self.allows(before.audiences))


def entry_to_document(entry: RegistrationEntry) -> dict[str, JSON]:
    """Write an entry as the audit record keeps it: every field, null where it is absent; but not what LEFT_OUT has.

    Shape: times as RFC 3339 with Z, TTLs as whole seconds with s ("3600s"), selectors sorted as "type:value".
    """
    document: dict[str, JSON] = {
        "id": entry.id,
        "spiffe_id": str(entry.spiffe_id),
        "parent_id": str(entry.parent_id),
        "selectors": [str(selector) for selector in sorted(entry.selectors)],
        "x509_svid_ttl": _ttl_to_text(entry.x509_svid_ttl),
        "jwt_svid_ttl": _ttl_to_text(entry.jwt_svid_ttl),
        "federates_with": [trust_domain.name for trust_domain in entry.federates_with],
        "admin": entry.admin,
        "downstream": entry.downstream,
        "expires_at": _moment_to_text(entry.expires_at),
        "dns_names": list(entry.dns_names),
        "revision": entry.revision,
        "store_svid": entry.store_svid,
        "hint": entry.hint,
        "created_at": _moment_to_text(entry.created_at),
        "owner": entry.owner,
        "labels": {key: entry.labels[key] for key in sorted(entry.labels)},
    }
    later: dict[str, JSON] = {
        "default": entry.default,
        "audiences": None if entry.audiences is None else list(entry.audiences),
        "callers": None if entry.callers is None else list(map(str, entry.callers)),
        "observe": entry.observe,
    }
    return document | {key: value for key, value in later.items() if value != LEFT_OUT[key]}


def _ttl_to_text(ttl: timedelta | None) -> str | None:
    return None if ttl is None else f"{ttl // timedelta(seconds=1)}s"


def _moment_to_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _check_unbuilt(entry: RegistrationEntry) -> None:
    for name, value in (("admin", entry.admin), ("downstream", entry.downstream), ("store_svid", entry.store_svid)):
        if value:
            raise EntryError(f"{name}: expected false, found true; this is not supported yet")
    if entry.federates_with:
        found = ", ".join(map(str, entry.federates_with))
        raise EntryError(f"federates_with: expected none, found {found}; federation is not supported yet")


def _check_ttl(name: str, ttl: timedelta | None) -> None:
    if ttl is None:
        return
    if not timedelta() < ttl <= MAX_TTL:
        limit = MAX_TTL // timedelta(seconds=1)
        raise EntryError(f"{name}: expected 1 to {limit} seconds, found {ttl.total_seconds():g}")
    if ttl % timedelta(seconds=1):
        raise EntryError(f"{name}: expected whole seconds, found {ttl.total_seconds():g}")


def _check_moment(name: str, moment: datetime | None) -> None:
    if moment is not None and moment.utcoffset() is None:
        raise EntryError(f"{name}: expected a time with a time zone, found {moment.isoformat()}")


def _check_dns_names(names: tuple[str, ...]) -> None:
    if len(names) > _MAX_DNS_NAMES:
        raise EntryError(f"dns_names: expected at most {_MAX_DNS_NAMES}, found {len(names)}")
    if len({name.lower() for name in names}) != len(names):
        raise EntryError("dns_names: duplicate name")
    for name in names:
        labels = name.split(".")
        if (
            len(name) > _MAX_DNS_NAME_BYTES
            or not all(_DNS_LABEL.fullmatch(label) for label in labels)
            or labels[-1].isdigit()
        ):
            raise EntryError(f"dns_names: expected a host name without a wildcard, found {name!r}")


def _check_text(name: str, text: str, limit: int) -> None:
    if not text.isprintable():
        raise EntryError(f"{name}: expected printable characters, found {text!r}")
    if len(text.encode()) > limit:
        raise EntryError(f"{name}: expected at most {limit} bytes, found {len(text.encode())}")


def _check_audiences(audiences: tuple[str, ...] | None) -> None:
    if audiences is None:
        return
    if len(audiences) > _MAX_AUDIENCES:
        raise EntryError(f"audiences: expected at most {_MAX_AUDIENCES}, found {len(audiences)}")
    if list(audiences) != sorted(set(audiences)):
        raise EntryError("audiences: expected each once, in order")
    for audience in audiences:
        if not audience:
            raise EntryError("audiences: expected a text, found an empty one")
        _check_text("audiences", audience, MAX_AUDIENCE_BYTES)


def _check_callers(callers: tuple[SpiffeID, ...] | None) -> None:
    if not callers:
        return
    if len(callers) > MAX_CALLERS:
        raise EntryError(f"callers: expected at most {MAX_CALLERS}, found {len(callers)}")
    texts = list(map(str, callers))
    if texts != sorted(set(texts)):
        raise EntryError("callers: expected each once, in order")
    if (total := sum(map(len, texts))) > MAX_CALLERS_BYTES:
        raise EntryError(f"callers: expected at most {MAX_CALLERS_BYTES} bytes together, found {total}")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise EntryError(f"labels: expected at most {MAX_LABELS}, found {len(labels)}")
    for key, value in labels.items():
        if not key:
            raise EntryError("labels: empty name")
        _check_text("labels", key, MAX_LABEL_BYTES)
        _check_text("labels", value, MAX_LABEL_BYTES)
