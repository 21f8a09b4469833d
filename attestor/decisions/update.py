"""What a watched stream of the Workload API sends next, if anything.

Decided here: which SVIDs and authorities a message holds, whether every client can take it, and whether it is news.
Not decided here: who is entitled (`match`), when a stream looks again (flows/serve_workload), how a message is encoded (svid/wire).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from attestor.decisions.clocks import Reading, is_valid
from cognomen.protocol.entry import EntryID, RegistrationEntry
from svid.bundle import Bundle
from svid.crl import CRL
from svid.x509svid import X509SVID

__all__ = [
    "MOST_MESSAGE_BYTES",
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

MOST_MESSAGE_BYTES = 4 * 1024 * 1024 - 1024
"""gRPC's clients accept messages of 4 MiB; up to half of one may be revocation lists (decisions/crls)."""
_FIELDS_BYTES = 32  # the numbers and lengths of one SVID's fields
_ALWAYS_FIT = (
    100  # that many fit even with the longest SPIFFE IDs, so a small number need not be measured at each change
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What X509-SVIDs are checked with: the bundle, and its authorities' lists of revoked certificates."""

    bundle: Bundle
    crls: tuple[CRL, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Message:
    """All X509-SVIDs of a caller, the default one first, and what vouches for them.

    Args:
        entries: whose they are, in the same order.
        left_out: how many more the caller is entitled to that do not fit.
    """

    svids: tuple[X509SVID, ...]
    entries: tuple[RegistrationEntry, ...]
    trust: Trust
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Send(Generic[_Message]):
    """The full state now, which differs from what was sent last."""

    message: _Message


class NoMessage(StrEnum):
    """Why there is nothing to send."""

    UNCHANGED = "unchanged"
    WAIT = "wait"  # the caller is entitled to something that is not minted yet
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
    """What FetchX509SVID sends next to a caller that matches these entries, in match order.

    An SVID that is still being minted, or is not valid now, does not delay the others. If all of them together make a message that stock
    clients refuse, so that the caller would get none, the last ones are left out.

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
    if last is not None and _is_cut_of(last, usable) and _is_same(last.trust, trust):
        return NoMessage.UNCHANGED
    fitting = _fitting(usable, trust)
    whose = tuple(entries)
    if len(usable) < len(whose):  # rarely
        whose = tuple(one for one in whose if one.id in svids and _is_usable(svids[one.id], trust.bundle, at))
    left_out = len(usable) - len(fitting)
    return Send(X509Message(svids=fitting, entries=whose[: len(fitting)], trust=trust, left_out=left_out))


def x509_bundle_update(entries: Sequence[RegistrationEntry], trust: Trust, *, last: Trust | None) -> Update[Trust]:
    """What FetchX509Bundles sends next; it never sends an empty bundle, because that ends clients for good.

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
    """What FetchJWTBundles sends next; it does send a bundle without keys, which means that no JWT-SVID is valid.

    Source: SPIFFE Workload API 6.2.2
    """
    if not entries:
        return NoMessage.DENIED
    if last is not None and last.jwt_authorities == bundle.jwt_authorities:
        return NoMessage.UNCHANGED
    return Send(bundle)


def _is_same(one: Trust, other: Trust) -> bool:
    """Whether both are the same for checking X509-SVIDs."""
    return one.bundle.x509_authorities == other.bundle.x509_authorities and one.crls == other.crls


def unique_hints(entries: Sequence[RegistrationEntry]) -> Iterator[str]:
    """The hint of each entry; the first of those that share a hint keeps it, the others get none.

    Source: SPIFFE Workload API 5.2.1
    """
    taken: set[str] = set()
    for entry in entries:
        yield "" if entry.hint in taken else entry.hint
        taken.add(entry.hint)


def _is_cut_of(last: X509Message, usable: tuple[X509SVID, ...]) -> bool:
    sent = len(last.svids)
    return sent + last.left_out == len(usable) and last.svids == usable[:sent]


def _fitting(usable: tuple[X509SVID, ...], trust: Trust) -> tuple[X509SVID, ...]:
    """The first SVIDs, as many as fit in a message that every client accepts; each is sent with the whole bundle."""
    if len(usable) <= _ALWAYS_FIT:
        return usable
    room = MOST_MESSAGE_BYTES - sum(len(crl.der) for crl in trust.crls)
    each = len(trust.bundle.x509_der()) + len(usable[0].key_der()) + _FIELDS_BYTES  # all keys are of one kind
    for number, svid in enumerate(usable):
        texts = len(str(svid.spiffe_id)) + len(svid.hint.encode())
        room -= each + texts + len(svid.chain_der())
        if room < 0:
            return usable[:number]
    return usable


def _with_hint(svid: X509SVID, hint: str) -> X509SVID:
    """The SVID with this hint; the same object if nothing changes, so that many streams compare and encode it once."""
    return svid if svid.hint == hint else replace(svid, hint=hint)


def _is_usable(svid: X509SVID, bundle: Bundle, at: Reading) -> bool:
    """Whether clients will accept it; that it is well formed was checked when it was minted (`minted`)."""
    return svid.spiffe_id.is_member_of(bundle.trust_domain) and is_valid(svid.not_before, svid.not_after, at)
