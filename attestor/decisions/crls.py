"""Which certificate revocation lists this attestor holds: the newest of each authority in the bundle; and which it hands to workloads.

They are for verifiers that read lists; what our own refuse is in the denials (attestor/deniallog). What a list must look like: svid/crl.
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
"""How much of lists a workload is handed: its client takes messages of 4 MiB, and would lose its identity by a larger one."""


def documents_of(updates: Iterable[Update]) -> Iterator[bytes]:
    """The lists that a step brings, put together from their parts; one whose end did not come is none."""
    parts: list[bytes] = []
    for update in updates:
        if isinstance(update, CRLIs):
            parts.append(update.document)
            if not update.more:
                yield b"".join(parts)
                parts = []


def with_newest(held: tuple[CRL, ...], document: bytes, bundle: Bundle, *, at: datetime) -> tuple[CRL, ...]:
    """What is held once a list came: the same object where nothing changes.

    Raises:
        CRLError: it cannot be read, is of no authority of the bundle, or older than the one held.
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
    """Those of authorities that are in the bundle."""
    return tuple(crl for crl in held if any(map(crl.is_of, bundle.x509_authorities)))


def fits(held: tuple[CRL, ...]) -> bool:
    """Whether all of them can be handed out."""
    return sum(len(crl.der) for crl in held) <= MOST_BYTES


def fitting(held: tuple[CRL, ...], handed: tuple[CRL, ...] = (), *, serving: Collection[str] = ()) -> tuple[CRL, ...]:
    """Those that are handed out: where all of them are too much, the largest stay behind, and what was handed out of theirs before stays.

    A verifier refuses every certificate of an authority without a list: an older one is the lesser evil, and is told (flows/follow_feed).

    Args:
        serving: the authorities that signed what this node serves, by their key identifiers in hexadecimal: theirs come first, for
            their peers on other nodes mostly have SVIDs of the same.
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
    """Which of them workloads do not have, in words, and what they have instead; empty: they have all."""
    before = {crl.authority_key_id: crl for crl in handed}
    told = [
        f"{'an older list' if crl.authority_key_id in before else 'no list'} of authority {crl.authority_key_id.hex()}"
        for crl in held
        if before.get(crl.authority_key_id) != crl
    ]
    return f"expected at most {MOST_BYTES} bytes together, workloads have {', '.join(told)}" if told else ""
