"""Which certificate revocation lists this attestor holds (the newest of each authority in the bundle), and which it hands to workloads.

They are for verifiers that read lists; our own verifiers use the denials (attestor/deniallog). What a list must look like: svid/crl.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from cognomen.protocol.feed import CRLIs, Update
from svid.bundle import Bundle
from svid.crl import CRL
from svid.errors import CRLError

__all__ = ["MOST_BYTES", "documents_of", "fits", "fitting", "left_out", "of_bundle", "with_newest"]

MOST_BYTES = 2 << 20
"""The most bytes of lists that a workload gets: its client accepts messages of 4 MiB, and a larger one would cost it its identity."""


def documents_of(updates: Iterable[Update]) -> Iterator[bytes]:
    """Put together the lists in a step from their parts; ignore one whose last part is missing."""
    parts: list[bytes] = []
    for update in updates:
        if isinstance(update, CRLIs):
            parts.append(update.document)
            if not update.more:
                yield b"".join(parts)
                parts = []


def with_newest(held: tuple[CRL, ...], document: bytes, bundle: Bundle, *, at: datetime) -> tuple[CRL, ...]:
    """What to hold after this list arrived: the same object if nothing changes.

    Raises:
        CRLError: it cannot be read, belongs to no authority in the bundle, or is older than the one held.
    """
    came = CRL.from_der(document)
    came.check(bundle, at=at)
    for known in held:
        if known.authority_key_id == came.authority_key_id and not came.is_newer_than(known):
            if came == known:
                return held
            raise CRLError(f"CRL number: expected more than {known.number}, found {came.number}")
    return (*(known for known in held if known.authority_key_id != came.authority_key_id), came)


def of_bundle(held: tuple[CRL, ...], bundle: Bundle) -> tuple[CRL, ...]:
    """The lists whose authorities are in the bundle."""
    return tuple(crl for crl in held if any(map(crl.is_of, bundle.x509_authorities)))


def fits(held: tuple[CRL, ...]) -> bool:
    """Whether all of them can be handed out."""
    return sum(len(crl.der) for crl in held) <= MOST_BYTES


def fitting(held: tuple[CRL, ...], handed: tuple[CRL, ...] = (), *, serving: Collection[str] = ()) -> tuple[CRL, ...]:
    """Which lists to hand out: if they are too much together, the largest are held back, and their previous versions stay in use.

    A verifier refuses every certificate of an authority without a list, so an older list is the lesser evil. It is reported
    (flows/follow_feed).

    Args:
        serving: the authorities that signed what this node serves, by their key identifiers in hexadecimal: their lists come first,
            because peers on other nodes mostly have SVIDs of the same authorities.
    """
    left = MOST_BYTES
    chosen: dict[bytes, tuple[CRL, ...]] = {crl.authority_key_id: () for crl in held}
    before = {crl.authority_key_id: crl for crl in handed}
    for crl in sorted(held, key=lambda crl: (crl.authority_key_id.hex() not in serving, len(crl.der))):
        for one in (crl, before.get(crl.authority_key_id)):
            if one is not None and len(one.der) <= left:
                left -= len(one.der)
                chosen[crl.authority_key_id] = (one,)
                break
    return tuple(itertools.chain.from_iterable(chosen.values()))


def left_out(held: tuple[CRL, ...], handed: tuple[CRL, ...]) -> str:
    """Say which lists workloads do not have, and what they have instead; empty: they have all."""
    before = {crl.authority_key_id: crl for crl in handed}
    told = [
        f"{'an older list' if crl.authority_key_id in before else 'no list'} of authority {crl.authority_key_id.hex()}"
        for crl in held
        if before.get(crl.authority_key_id) != crl
    ]
    return f"expected at most {MOST_BYTES} bytes together, workloads have {', '.join(told)}" if told else ""
