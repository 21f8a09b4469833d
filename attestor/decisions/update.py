"""What a watched stream of the Workload API says next, if anything.

Decided here: which SVIDs and authorities a message holds, whether it is one that no client chokes on, whether it is news.
Not decided here: who is entitled (`match`), what makes somebody look again (flows/serve_workload), how a message is written (svid/wire).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from attestor.decisions.clocks import Reading, is_valid
from svid.bundle import Bundle
from svid.crl import CRL
from svid.entry import EntryID, RegistrationEntry
from svid.x509svid import X509SVID

__all__ = [
    "NoMessage",
    "Send",
    "Trust",
    "Update",
    "X509Message",
    "jwt_bundle_update",
    "unique_hints",
    "x509_bundle_update",
    "x509_update",
]

_Message = TypeVar("_Message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What X509-SVIDs are checked with: the bundle, and what its authorities say of those that ended before their time."""

    bundle: Bundle
    crls: tuple[CRL, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Message:
    """All X509-SVIDs of a caller, the default one first, and what vouches for them."""

    svids: tuple[X509SVID, ...]
    trust: Trust


@dataclass(frozen=True, slots=True)
class Send(Generic[_Message]):
    """This is the full state now, and not what was sent last."""

    message: _Message


class NoMessage(StrEnum):
    """Why there is nothing to send."""

    UNCHANGED = "unchanged"
    WAIT = "wait"  # the caller is entitled to something that is not there yet
    DENIED = "denied"


Update: TypeAlias = Send[_Message] | NoMessage


def x509_update(
    entries: Sequence[RegistrationEntry],
    svids: Mapping[EntryID, X509SVID],
    trust: Trust,
    *,
    last: X509Message | None,
    at: Reading,
) -> Update[X509Message]:
    """What FetchX509SVID says next to a caller whom these entries match, in match order.

    One SVID that is still being minted, or which is not valid now, keeps none of the others back.

    Source: SPIFFE Workload API 4.3, 5.2.1
    """
    if not entries:
        return NoMessage.DENIED
    hints = unique_hints(entries)
    usable = tuple(
        _with_hint(svids[entry.id], hint)
        for entry, hint in zip(entries, hints, strict=True)
        if entry.id in svids and _is_usable(svids[entry.id], trust.bundle, at)
    )
    if not usable or not trust.bundle.x509_authorities:
        return NoMessage.WAIT
    if last is not None and last.svids == usable and _is_same(last.trust, trust):
        return NoMessage.UNCHANGED
    return Send(X509Message(svids=usable, trust=trust))


def x509_bundle_update(entries: Sequence[RegistrationEntry], trust: Trust, *, last: Trust | None) -> Update[Trust]:
    """What FetchX509Bundles says next; an empty bundle is never said, because clients end for good on one.

    Source: SPIFFE Workload API 5.2.2
    """
    if not entries:
        return NoMessage.DENIED
    if not trust.bundle.x509_authorities:
        return NoMessage.WAIT
    if last is not None and _is_same(last, trust):
        return NoMessage.UNCHANGED
    return Send(trust)


def jwt_bundle_update(entries: Sequence[RegistrationEntry], bundle: Bundle, *, last: Bundle | None) -> Update[Bundle]:
    """What FetchJWTBundles says next; a bundle without keys is said: it means that no JWT-SVID is valid.

    Source: SPIFFE Workload API 6.2.2
    """
    if not entries:
        return NoMessage.DENIED
    if last is not None and last.jwt_authorities == bundle.jwt_authorities:
        return NoMessage.UNCHANGED
    return Send(bundle)


def _is_same(one: Trust, other: Trust) -> bool:
    """Whether both say the same to whoever checks X509-SVIDs."""
    return one.bundle.x509_authorities == other.bundle.x509_authorities and one.crls == other.crls


def unique_hints(entries: Sequence[RegistrationEntry]) -> Iterator[str]:
    """The hint of each entry; the first of those that share one keeps it, the others go without.

    Source: SPIFFE Workload API 5.2.1
    """
    taken: set[str] = set()
    for entry in entries:
        yield "" if entry.hint in taken else entry.hint
        taken.add(entry.hint)


def _with_hint(svid: X509SVID, hint: str) -> X509SVID:
    """The SVID itself where nothing changes: what is the same object for many streams is compared and written once."""
    return svid if svid.hint == hint else replace(svid, hint=hint)


def _is_usable(svid: X509SVID, bundle: Bundle, at: Reading) -> bool:
    """Whether clients will take it; that it is whole was seen when it was taken (minted)."""
    return svid.spiffe_id.is_member_of(bundle.trust_domain) and is_valid(svid.not_before, svid.not_after, at)
