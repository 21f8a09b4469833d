"""The feed, as values that issuer and attestor share.

Decided elsewhere: what a change means to a node (issuer/decisions/changes), in which order and messages it is sent
(issuer/decisions/feedsteps), how it affects an attestor (attestor/decisions/sync), how it is encoded (cognomen/wire/feed).
"""

from dataclasses import dataclass
from typing import TypeAlias

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Reason
from svid.bundle import Bundle
from svid.denials import Denial

__all__ = [
    "BundleIs",
    "CRLIs",
    "CheckpointIs",
    "Cursor",
    "DenialsPut",
    "EntryGone",
    "EntryPut",
    "QuestionIs",
    "SentAwayIs",
    "TaintedIs",
    "Update",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A follower's place: which store it follows, and the number of the last change it has."""

    incarnation: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DenialsPut:
    """These credentials were revoked before they expired, whoever holds them; this cannot be withdrawn."""

    denials: tuple[Denial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleIs:
    """This is the bundle of the trust domain from now on."""

    bundle: Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class TaintedIs:
    """What these authorities signed must be replaced now, although it is still accepted; no other authorities are tainted.

    A snapshot without this update means that no authority is tainted.

    Args:
        authority_ids: as the SVIDs name them: for X.509 the subject key identifier, in hexadecimal; for JWT the key id.
    """

    authority_ids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLIs:
    """The newest certificate revocation list of one of the bundle's authorities, or a part of it.

    Args:
        more: the next update is its next part, in the same step.

    Shape: DER; the feed does not read it, so that a bad one keeps nothing else waiting.
    """

    document: bytes
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryGone:
    """The node is not, or no longer, entitled to the entry with this id."""

    entry_id: EntryID


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPut:
    """The node is entitled to this entry, in this version, from now on."""

    entry: RegistrationEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointIs:
    """The latest checkpoint of the issuer's audit chain.

    Shape: as cognomen.protocol.auditlog.Checkpoint writes it; the feed does not read it, so that a bad one keeps nothing else waiting.
    """

    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SentAwayIs:
    """The issuer admits this node no more; this is in the last step of its feed, so that its programs hear at once why they lose theirs."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionIs:
    """A question, or a part of it: which programs would gain or lose an identity if the node's entries changed like this?

    It is no news: it is alone in its step, which leaves the follower where it is, and nobody keeps it.

    Args:
        put: the entries that would be new, or different.
        gone: the entries that the node would lose.
        more: another part follows, in a step of its own; other steps may come in between.
    """

    id: str
    put: tuple[RegistrationEntry, ...] = ()
    gone: tuple[EntryID, ...] = ()
    more: bool = False


Update: TypeAlias = (
    DenialsPut | BundleIs | TaintedIs | CRLIs | EntryGone | EntryPut | CheckpointIs | SentAwayIs | QuestionIs
)
"""One piece of news, or a question."""
