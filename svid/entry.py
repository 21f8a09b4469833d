"""Registration entries: which workload gets which identity, as far as one entry can be judged by itself.

What an entry may claim in a trust domain (its ID, its parent, reserved paths) is decided in issuer/decisions/registration.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NewType

from svid.errors import EntryError
from svid.selector import Selector
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["MAX_ENTRY_ID_BYTES", "MAX_TTL", "EntryID", "RegistrationEntry"]

EntryID = NewType("EntryID", str)
"""An entry's name in its issuer."""

MAX_TTL = timedelta(days=1)
MAX_ENTRY_ID_BYTES = 255
_MAX_HINT_BYTES = 1024

_MAX_SELECTORS = 100
_MAX_DNS_NAMES = 64
_MAX_DNS_NAME_BYTES = 253
_MAX_LABELS = 64
_MAX_LABEL_BYTES = 256
_MAX_OWNER_BYTES = 256
_ENTRY_ID = re.compile(rf"[a-zA-Z0-9._-]{{0,{MAX_ENTRY_ID_BYTES}}}")
_DNS_LABEL = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationEntry:
    """Whoever shows all these selectors, on a node that is or belongs to `parent_id`, gets `spiffe_id`.

    Attributes:
        id: empty: the issuer is to choose one.
        x509_svid_ttl, jwt_svid_ttl: None: the issuer's default.
        federates_with, admin, downstream, store_svid: refused until they exist.
        expires_at: from then on the entry is as if it were not there; None: it stays.
        hint: what the workload may tell its identities apart by.
        owner, labels: for people; nothing is decided by them.

    Raises:
        EntryError: a field that no entry can have; the message begins with its name.
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
        _check_text("hint", self.hint, _MAX_HINT_BYTES)
        _check_text("owner", self.owner, _MAX_OWNER_BYTES)
        _check_labels(self.labels)


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
        raise EntryError(f"{name}: expected a time with its zone, found {moment.isoformat()}")


def _check_dns_names(names: tuple[str, ...]) -> None:
    if len(names) > _MAX_DNS_NAMES:
        raise EntryError(f"dns_names: expected at most {_MAX_DNS_NAMES}, found {len(names)}")
    if len({name.lower() for name in names}) != len(names):
        raise EntryError("dns_names: expected each name once")
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


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MAX_LABELS:
        raise EntryError(f"labels: expected at most {_MAX_LABELS}, found {len(labels)}")
    for key, value in labels.items():
        if not key:
            raise EntryError("labels: expected a name, found an empty one")
        _check_text("labels", key, _MAX_LABEL_BYTES)
        _check_text("labels", value, _MAX_LABEL_BYTES)
