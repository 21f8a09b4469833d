"""What a checkpoint shows about a chain, and what it does not let pass."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.daemon.auditlog import GENESIS, RESTORED, AuditRow, ChainCheck, Checkpoint
from issuer.decisions.audit import AuditEvent, chain
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN

KEY = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))


def a_chain(length: int, *, actions: tuple[AuditEvent, ...] = ()) -> list[AuditRow]:
    events = [AuditEvent(at=NOW, actor="uid:0", action=f"{number}") for number in range(length)]
    return list(chain([*events, *actions], number=0, head=GENESIS))


def checkpoint_at(rows: list[AuditRow], count: int, *, incarnation: str = "a") -> Checkpoint:
    head = rows[count - 1].hash if count else GENESIS
    unsigned = Checkpoint(
        trust_domain=TRUST_DOMAIN,
        incarnation=incarnation,
        count=count,
        head=head,
        at=NOW + timedelta(seconds=count),
        public_key=b"",
    )
    return unsigned.signed(KEY)


def compared(rows: list[AuditRow], *checkpoints: Checkpoint) -> list[str]:
    check = ChainCheck(checkpoints)
    check.read(rows)
    return [check.compare(one) for one in checkpoints]


def test_what_is_written_is_read_again_and_its_signature_holds() -> None:
    checkpoint = checkpoint_at(a_chain(3), 3)
    assert Checkpoint.parse(checkpoint.to_json()) == checkpoint
    checkpoint.check_signature()


@pytest.mark.parametrize(
    "change",
    [
        {"count": 2},
        {"head": bytes(32)},
        {"at": NOW},
        {"incarnation": "b"},
        {"signature": b""},
        {"public_key": b"no key"},
    ],
)
def test_a_checkpoint_that_was_changed_is_found_out(change: dict[str, object]) -> None:
    changed = replace(checkpoint_at(a_chain(3), 3), **change)  # type: ignore[arg-type]  # a table of fields
    with pytest.raises(ValueError, match="expected a signature by the key in it"):
        changed.check_signature()


@given(text=st.binary(max_size=200))
def test_what_is_no_checkpoint_is_refused_and_nothing_else(text: bytes) -> None:
    with pytest.raises(ValueError, match="checkpoint: expected"):
        Checkpoint.parse(text)


@pytest.mark.parametrize("text", [b"x" * 5000, b"[" * 4000, b"{}", b'{"count": true}'])
def test_strange_texts_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="checkpoint: expected"):
        Checkpoint.parse(text)


def test_a_whole_chain_is_as_it_was_at_every_checkpoint() -> None:
    rows = a_chain(5)
    assert compared(rows, checkpoint_at(rows, 2), checkpoint_at(rows, 5), checkpoint_at(rows, 0)) == [
        "rows 1 to 2 are as they were then", "rows 1 to 5 are as they were then", "rows 1 to 0 are as they were then",
    ]  # fmt: skip


def test_an_edited_row_is_found() -> None:
    rows = a_chain(5)
    rows[2] = replace(rows[2], body=rows[2].body.replace(b"uid:0", b"uid:1"))
    with pytest.raises(ValueError, match="row 3: expected it to follow"):
        compared(rows)


def test_a_deleted_row_is_found() -> None:
    rows = a_chain(5)
    del rows[2]
    with pytest.raises(ValueError, match="row 3: expected it, found row 4"):
        compared(rows)


def test_a_cut_end_is_found_by_a_checkpoint_only() -> None:
    rows = a_chain(5)
    assert compared(rows[:3]) == []
    with pytest.raises(ValueError, match="expected 5 rows, found 3: the end was cut off"):
        compared(rows[:3], checkpoint_at(rows, 5))


def test_a_chain_that_was_written_anew_is_found_by_a_checkpoint() -> None:
    rows, other = a_chain(5), a_chain(4, actions=(AuditEvent(at=NOW, actor="uid:9", action="another"),))
    with pytest.raises(ValueError, match="the chain was written anew"):
        compared(other, checkpoint_at(rows, 5))


def test_rows_that_a_restore_lost_are_told_as_that_and_those_before_it_still_hold() -> None:
    before = a_chain(5)
    restored = AuditEvent(at=NOW, actor="uid:0", action=RESTORED, facts={"incarnation": "a"})
    later = AuditEvent(at=NOW, actor="uid:0", action="later")
    rows = a_chain(3, actions=(restored, later))
    assert compared(
        rows, checkpoint_at(before, 5), checkpoint_at(rows, 3), checkpoint_at(rows, 5, incarnation="b")
    ) == [
        "rows 4 to 5 of then were lost by the restore that row 4 records",
        "rows 1 to 3 are as they were then",
        "rows 1 to 5 are as they were then",
    ]


def test_a_restore_that_is_only_told_in_a_fact_excuses_nothing() -> None:
    rows = a_chain(2, actions=(AuditEvent(at=NOW, actor="uid:0", action="x", facts={"store restored": "a"}),))
    with pytest.raises(ValueError, match="the end was cut off"):
        compared(rows, checkpoint_at(a_chain(5), 5))
