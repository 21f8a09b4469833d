"""Drafts on record, for tests of what happens to them next: in books that are kept nowhere else."""

from datetime import datetime
from typing import TypeVar, cast

from issuer.datastore.port import Transaction
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.profile import Draft, Intent, JWTDraft
from issuer.recording import Recorded, record
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, Signing

__all__ = ["recorded"]

DraftT = TypeVar("DraftT", bound=Draft)


class _Rows(list[object]):
    def record(self, rows: list[object]) -> None:
        self.extend(rows)


class _Books:
    """The part of a transaction that `record` writes to."""

    def __init__(self) -> None:
        self.ledger = _Rows()
        self.audit = _Rows()


def recorded(draft: DraftT, by: Signing, *, now: datetime = NOW) -> Recorded[DraftT]:
    """Put a draft on record, to be signed by that authority."""
    kind = CredentialKind.JWT if isinstance(draft, JWTDraft) else CredentialKind.X509
    books = cast("Transaction", _Books())
    (one,) = record(
        books, [Intent(kind=kind, draft=draft)], by.authority, trust_domain=TRUST_DOMAIN, now=now, actor="test"
    )
    return one
