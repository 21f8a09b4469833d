"""What the audit record says about an operator."""

import json

from cognomen.protocol.auditlog import GENESIS
from issuer.decisions.audit import AuditEvent, chain
from issuer.decisions.operator import Operator
from tests.doubles.issuer_values import NOW


def body(actor: str) -> dict[str, object]:
    (row,) = chain([AuditEvent(at=NOW, actor=actor, action="entry created")], number=0, head=GENESIS)
    document = json.loads(row.body)
    assert isinstance(document, dict)
    return document


def test_a_row_of_an_operator_has_who_logged_in_and_why() -> None:
    said = body(Operator("uid:0", login="uid:1000", comment="as agreed with Zoë\x1b[31m"))
    assert (said["actor"], said["login"]) == ("uid:0", "uid:1000")
    assert said["comment"] == r"as agreed with Zoë\x1b[31m"


def test_a_row_of_anybody_else_has_neither() -> None:
    assert not body("issuer").keys() & {"login", "comment"}


def test_an_operator_is_named_as_any_actor() -> None:
    assert Operator("uid:0", login="uid:1000") == "uid:0"
    assert hash(Operator("uid:0", comment="a")) == hash("uid:0")
