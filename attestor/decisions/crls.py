"""Which certificate revocation lists this attestor holds: the newest of each authority in the bundle; and which it hands to workloads.

They are for verifiers that read lists; what our own refuse is in the denials (attestor/deniallog). What a list must look like: svid/crl.
"""

import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime

from cognomen.protocol.feed import CRLIs, Update
from svid.bundle import Bundle
from svid.crl import CRL
from svid.errors import CRLError

__all__ = ["MOST_BYTES", "documents_of", "fitting", "of_bundle", "with_newest"]

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


def fitting(held: tuple[CRL, ...], handed: tuple[CRL, ...] = ()) -> tuple[CRL, ...]:
    """Those that are handed out: where all of them are too much, the largest stay behind, and what was handed out of theirs before stays.

    A verifier refuses every certificate of an authority without a list: an older one is the lesser evil, and is told (flows/follow_feed).
    """
    left = MOST_BYTES
    chosen: dict[bytes, tuple[CRL, ...]] = {crl.authority_key_id: () for crl in held}
    before = {crl.authority_key_id: crl for crl in handed}
    for crl in sorted(held, key=lambda crl: len(crl.der)):
        for one in (crl, before.get(crl.authority_key_id)):
            if one is not None and len(one.der) <= left:
                left -= len(one.der)
                chosen[crl.authority_key_id] = (one,)
                break
    return tuple(itertools.chain.from_iterable(chosen.values()))
