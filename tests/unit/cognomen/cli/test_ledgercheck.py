"""The ledger and the record of an issuer that mints while they are compared."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from cognomen.cli.ledgercheck import LedgerCheck
from cognomen.protocol.auditlog import GENESIS, AuditRow
from cognomen.wire.pb import admin_pb2 as pb
from issuer.decisions.audit import AuditEvent, chain
from tests.doubles.issuer_values import NOW

PAGE = 3
MOST_PAGES = 12
ENDS = NOW + timedelta(minutes=5)
SUBJECT = "spiffe://example.org/a"


class Issuer:
    """Has a ledger and a record, and grows by `pace` credentials before every third of the first pages that are read."""

    def __init__(self, size: int, pace: int = 0) -> None:
        self.ledger: list[pb.Credential] = []
        self.rows: list[AuditRow] = []
        self.pace = pace
        self.pages = 0
        self.add_row(
            AuditEvent(at=NOW, actor="issuer", action="checkpoint key made")
        )  # so the pages do not end together
        self.mint(size)

    def grow(self) -> None:
        self.pages += 1
        self.mint(self.pace if self.pages <= MOST_PAGES and self.pages % 3 == 0 else 0)

    def mint(self, count: int) -> None:
        for _ in range(count):
            serial = f"{len(self.ledger):x}"
            facts = {"authority": "k", "not_after": ENDS.isoformat(), "entry": "e"}
            event = AuditEvent(
                at=NOW,
                actor="n",
                action="jwt issued",
                subject=SUBJECT,
                entry_revision=1,
                credential=serial,
                facts=facts,
            )
            self.add_row(event)
            self.add_credential(serial)

    def add_row(self, event: AuditEvent) -> None:
        head = self.rows[-1].hash if self.rows else GENESIS
        self.rows += chain([event], number=len(self.rows), head=head)

    def add_credential(self, serial: str) -> None:
        number = self.ledger[-1].number + 1 if self.ledger else 1
        credential = pb.Credential(
            number=number,
            kind="jwt",
            serial=serial,
            spiffe_id=SUBJECT,
            entry_id="e",
            entry_revision=1,
            authority_id="k",
        )
        credential.issued_at.FromDatetime(NOW)
        credential.not_after.FromDatetime(ENDS)
        self.ledger.append(credential)

    def read_ledger(self, after: int) -> Iterator[pb.Credential]:
        while True:
            self.grow()
            page = [one for one in self.ledger if one.number > after][:PAGE]
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].number

    def read_rows(self, after: int) -> Iterator[AuditRow]:
        while True:
            self.grow()
            page = self.rows[after : after + PAGE]
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].number

    def compared(self) -> int:
        check = LedgerCheck(self.read_ledger)
        count = sum(1 for _ in check.follow(self.read_rows(0)))
        check.finish(self.read_rows(count))
        return check.compared


@pytest.mark.parametrize("pace", [0, 1, 2, 5])
@pytest.mark.parametrize("size", range(8))
def test_an_issuer_that_mints_meanwhile_is_not_suspected(size: int, pace: int) -> None:
    assert Issuer(size, pace).compared() >= size


@pytest.mark.parametrize("pace", [0, 1, 2, 5])
@pytest.mark.parametrize("deleted", [0, 4, -1])
def test_a_row_that_was_deleted_is_found_also_while_an_issuer_mints(deleted: int, pace: int) -> None:
    issuer = Issuer(8, pace)
    del issuer.ledger[deleted]
    with pytest.raises(ValueError, match="a row was deleted there"):
        issuer.compared()


@pytest.mark.parametrize("pace", [0, 1, 2, 5])
def test_a_row_that_was_added_is_found_also_while_an_issuer_mints(pace: int) -> None:
    issuer = Issuer(8, pace)
    issuer.add_credential("ab")
    with pytest.raises(ValueError, match="row 9 of the ledger, ab, is not on record"):
        issuer.compared()


def test_what_a_row_says_is_printed_printable() -> None:
    issuer = Issuer(1)
    body = json.loads(issuer.rows[1].body) | {"credential": "\x1b[2J\nfine"}
    issuer.rows[1] = AuditRow(number=2, body=json.dumps(body).encode(), hash=b"")
    with pytest.raises(ValueError, match=r"row 2 says that \\x1b\[2J\\nfine was issued"):
        issuer.compared()
