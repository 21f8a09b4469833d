"""The feed, in the words that issuer and attestor share.

Decided elsewhere: what a change means to a node (issuer/decisions/changes), in which order and in which messages it is told
(issuer/decisions/feedsteps), what it does to an attestor (attestor/decisions/sync), what it looks like on the wire (cognomen/wire/feed).
"""

from dataclasses import dataclass
from typing import TypeAlias

from svid.bundle import Bundle
from svid.denials import Denial
from svid.entry import EntryID, RegistrationEntry

__all__ = ["BundleIs", "CRLIs", "CheckpointIs", "Cursor", "DenialsPut", "EntryGone", "EntryPut", "TaintedIs", "Update"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a follower stands: which store, and the number of the last change it has."""

    incarnation: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DenialsPut:
    """These credentials ended before their time, whoever held them; nothing takes that back."""

    denials: tuple[Denial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleIs:
    """The bundle of the trust domain is this one from now on."""

    bundle: Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class TaintedIs:
    """What these authorities signed is to be replaced now, though it is accepted; no others are tainted. A snapshot without it: none are.

    Args:
        authority_ids: as the SVIDs name them: of X.509 the subject key identifier, in hexadecimal; of JWT the key id.
    """

    authority_ids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLIs:
    """This is the newest certificate revocation list of one of the bundle's authorities, or a part of it.

    Args:
        more: the next update is its next part, in the same step.

    Shape: DER; the feed does not read it, so that a bad one keeps nothing else waiting.
    """

    document: bytes
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryGone:
    """The node is not entitled to the entry of this id, or no longer."""

    entry_id: EntryID


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPut:
    """The node is entitled to this entry, which looks like this from now on."""

    entry: RegistrationEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointIs:
    """This is the latest checkpoint of the issuer's audit chain.

    Shape: as cognomen.daemon.auditlog.Checkpoint writes it; the feed does not read it, so that a bad one keeps nothing else waiting.
    """

    document: bytes


Update: TypeAlias = DenialsPut | BundleIs | TaintedIs | CRLIs | EntryGone | EntryPut | CheckpointIs
"""One piece of news."""
