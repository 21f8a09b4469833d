"""Registration entries: which identity is for whom, and what one entry can know about itself.

Whether an entry fits its trust domain, and who may hold it, is decided in issuer/decisions (registration, entitlement).
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

__all__ = ["MAX_HINT_BYTES", "MAX_TTL", "EntryID", "RegistrationEntry"]

EntryID = NewType("EntryID", str)
"""An entry's name; empty: the issuer chooses one."""

MAX_TTL = timedelta(days=1)
MAX_HINT_BYTES = 1024

_MAX_SELECTORS = 100
_MAX_DNS_NAMES = 100
_MAX_LABELS = 64
_MAX_TEXT_BYTES = 256
_ENTRY_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}")
_DNS_LABEL = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")
_MAX_DNS_NAME = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationEntry:
    """A caller with all these selectors, on a node that is or belongs to the parent, holds this SPIFFE ID.

    Args:
        id: empty until the issuer has chosen one.
        parent_id: a node, a node group, or the issuer (then this entry is a node group and its selectors are the nodes').
        x509_svid_ttl, jwt_svid_ttl: None: the issuer's default; whole seconds, at most a day.
        expires_at: the entry's own end; None: never.
        dns_names: further names in the X509-SVID.
        revision: counts the entry's changes; 0 until stored.
        hint: tells a workload that holds several identities which is which.
        owner: who answers for this identity.

    Raises:
        EntryError: a field that breaks a rule, its name first.

    Source: the fields are SPIRE's, plus owner and labels
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
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.id and not _ENTRY_ID.fullmatch(self.id):
            raise EntryError(f"id: expected up to 128 of a-z A-Z 0-9 . - _, found {self.id!r}")
        if not 1 <= len(self.selectors) <= _MAX_SELECTORS:
            raise EntryError(f"selectors: expected 1 to {_MAX_SELECTORS}, found {len(self.selectors)}")
        _check_ttl("x509_svid_ttl", self.x509_svid_ttl)
        _check_ttl("jwt_svid_ttl", self.jwt_svid_ttl)
        _check_times(self.expires_at, self.created_at)
        _check_dns_names(self.dns_names)
        _check_text("hint", self.hint, MAX_HINT_BYTES)
        _check_text("owner", self.owner, _MAX_TEXT_BYTES)
        _check_labels(self.labels)
        if self.revision < 0:
            raise EntryError(f"revision: expected 0 or more, found {self.revision}")
        for name in ("admin", "downstream", "store_svid", "federates_with"):
            if getattr(self, name):
                raise EntryError(f"{name}: expected it unset, this version has no such thing yet")
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))


def _check_ttl(name: str, ttl: timedelta | None) -> None:
    if ttl is None:
        return
    if not timedelta() < ttl <= MAX_TTL or ttl.microseconds:
        raise EntryError(
            f"{name}: expected whole seconds, 1 to {int(MAX_TTL.total_seconds())}, found {ttl.total_seconds():g}"
        )


def _check_times(*moments: datetime | None) -> None:
    for moment in moments:
        if moment is not None and moment.tzinfo is None:
            raise EntryError(f"time: expected a moment with its time zone, found {moment.isoformat()}")


def _check_dns_names(names: tuple[str, ...]) -> None:
    if len(names) > _MAX_DNS_NAMES:
        raise EntryError(f"dns_names: expected at most {_MAX_DNS_NAMES}, found {len(names)}")
    if len(set(names)) != len(names):
        raise EntryError("dns_names: expected each name once")
    for name in names:
        if len(name) > _MAX_DNS_NAME or not all(_DNS_LABEL.fullmatch(label) for label in name.split(".")):
            raise EntryError(f"dns_names: expected a host name without wildcard, found {name!r}")


def _check_text(name: str, text: str, limit: int) -> None:
    if len(text.encode(errors="surrogatepass")) > limit:
        raise EntryError(f"{name}: expected at most {limit} bytes, found {len(text.encode(errors='surrogatepass'))}")
    if not text.isprintable():
        raise EntryError(f"{name}: expected printable characters, found {text!r}")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MAX_LABELS:
        raise EntryError(f"labels: expected at most {_MAX_LABELS}, found {len(labels)}")
    for key, value in labels.items():
        if not key:
            raise EntryError("labels: expected a key, found an empty one")
        _check_text("labels", key, _MAX_TEXT_BYTES)
        _check_text("labels", value, _MAX_TEXT_BYTES)
