"""What a checkpoint shows about a chain, and what it does not let pass."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.auditlog import GENESIS, RESTORED, AuditRow, ChainCheck, Checkpoint, MissingRowsError, link
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
    with pytest.raises(ValueError, match="its signature is not by the key in it"):
        changed.check_signature()


@given(text=st.binary(max_size=200))
def test_what_is_no_checkpoint_is_refused_and_nothing_else(text: bytes) -> None:
    with pytest.raises(ValueError, match="checkpoint: expected"):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", True),
        ("count", -1),
        ("count", 2**63),
        ("head", "ab"),
        ("head", "AB" * 32),
        ("at", "0001-01-01T00:00:00+23:00"),
        ("at", "yesterday"),
        ("public_key", "AB"),
        ("public_key", "a b0"),
        ("signature", "x"),
    ],
)
def test_a_checkpoint_with_a_strange_value_is_refused(key: str, value: object) -> None:
    document = json.loads(checkpoint_at(a_chain(1), 1).to_json()) | {key: value}
    with pytest.raises(ValueError, match="checkpoint: expected"):
        Checkpoint.parse(json.dumps(document).encode())


@pytest.mark.parametrize("key", ["count", "head", "signature", "previous"])
def test_a_checkpoint_that_says_something_twice_is_refused(key: str) -> None:
    text = checkpoint_at(a_chain(2), 2).to_json().decode()
    value = json.dumps(json.loads(text).get(key, {"count": 1, "head": "ab" * 32}))
    with pytest.raises(ValueError, match=f"expected each key once, found '{key}' twice"):
        Checkpoint.parse(f'{{"{key}":{value},"{key}":{value},{text[1:]}'.encode())


def test_a_restore_in_a_row_that_says_something_twice_is_refused() -> None:
    body = f'{{"action":"{RESTORED}","action":"entry created"}}'.encode()
    with pytest.raises(ValueError, match="row 1: expected an event as the issuer writes it: expected each key once"):
        compared([AuditRow(number=1, body=body, hash=link(GENESIS, body))])


def test_the_checkpoint_where_a_file_begins_says_what_follows_from_it() -> None:
    rows = a_chain(5)
    check = ChainCheck([], begin=checkpoint_at(rows, 3))
    check.read(rows[3:])
    shown = [check.compare(checkpoint_at(rows, count)) for count in (0, 3, 5)]
    assert shown == [
        "only about rows before 4, which were not read",
        "row 4 follows from its last row",
        "rows 4 to 5 are as they were then",
    ]
    with pytest.raises(ValueError, match="row 3 is a different one now"):
        check.compare(replace(checkpoint_at(rows, 3), head=bytes(32)))


@pytest.mark.parametrize("text", [b"x" * 5000, b"[" * 4000, b"{}", b'{"count": true}'])
def test_strange_texts_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="checkpoint: expected"):
        Checkpoint.parse(text)


def test_a_whole_chain_is_as_it_was_at_every_checkpoint() -> None:
    rows = a_chain(5)
    assert compared(rows, checkpoint_at(rows, 2), checkpoint_at(rows, 5), checkpoint_at(rows, 0)) == [
        "rows 1 to 2 are as they were then", "rows 1 to 5 are as they were then", "it covers no row",
    ]  # fmt: skip


def test_an_edited_row_is_found() -> None:
    rows = a_chain(5)
    rows[2] = replace(rows[2], body=rows[2].body.replace(b"uid:0", b"uid:1"))
    with pytest.raises(ValueError, match="row 3 does not follow"):
        compared(rows)


def test_a_deleted_row_is_found() -> None:
    rows = a_chain(5)
    del rows[2]
    with pytest.raises(ValueError, match="row 3 is missing, found row 4"):
        compared(rows)


@given(st.lists(st.integers(1, 5), max_size=12))
def test_rows_that_come_again_with_the_same_bytes_change_nothing(again: list[int]) -> None:
    rows = a_chain(6)
    check = ChainCheck([whole := checkpoint_at(rows, 6)])
    check.read([*rows[:5], *(rows[number - 1] for number in again), rows[5]])
    assert (check.count, check.repeated) == (6, len(again))
    assert check.compare(whole) == "rows 1 to 6 are as they were then"


def test_a_row_that_comes_again_with_other_bytes_is_found() -> None:
    rows, others = a_chain(5), a_chain(5, actions=(AuditEvent(at=NOW, actor="uid:0", action="x"),))
    edited = replace(rows[2], body=rows[2].body.replace(b"uid:0", b"uid:1"))
    rehashed = replace(edited, hash=link(rows[1].hash, edited.body))
    for other in (edited, rehashed, replace(rows[2], hash=others[3].hash)):
        with pytest.raises(ValueError, match="row 3 comes twice, with different bytes"):
            ChainCheck([]).read([*rows, other])


def test_a_row_before_those_that_were_read_cannot_be_checked() -> None:
    rows = a_chain(5)
    for again in (1, 2):
        with pytest.raises(ValueError, match=f"row {again} comes after row 5, and nothing before row 3 was read"):
            ChainCheck([], begin=checkpoint_at(rows, 2)).read([*rows[2:], rows[again - 1]])


def test_what_is_missing_is_told_with_the_row_that_it_follows() -> None:
    rows = a_chain(5)
    with pytest.raises(MissingRowsError) as gap:
        compared([*rows[:2], *rows[3:]])
    with pytest.raises(MissingRowsError) as end:
        compared(rows[:3], checkpoint_at(rows, 5))
    assert (gap.value.after, end.value.after) == (2, 3)


def test_a_cut_end_is_found_by_a_checkpoint_only() -> None:
    rows = a_chain(5)
    assert compared(rows[:3]) == []
    with pytest.raises(ValueError, match="expected 5 rows, found 3: the end was cut off"):
        compared(rows[:3], checkpoint_at(rows, 5))


def test_a_chain_that_was_written_anew_is_found_by_a_checkpoint() -> None:
    rows, other = a_chain(5), a_chain(4, actions=(AuditEvent(at=NOW, actor="uid:9", action="another"),))
    with pytest.raises(ValueError, match="the chain was rewritten"):
        compared(other, checkpoint_at(rows, 5))


def test_rows_that_a_restore_lost_are_told_as_that_and_those_before_it_still_hold() -> None:
    before = a_chain(5)
    restored = AuditEvent(at=NOW, actor="uid:0", action=RESTORED, facts={"incarnation": "a"})
    later = AuditEvent(at=NOW, actor="uid:0", action="later")
    rows = a_chain(3, actions=(restored, later))
    assert compared(
        rows, checkpoint_at(before, 5), checkpoint_at(rows, 3), checkpoint_at(rows, 5, incarnation="b")
    ) == [
        "rows 4 to 5 of that time were lost in the restore that row 4 records",
        "rows 1 to 3 are as they were then",
        "rows 1 to 5 are as they were then",
    ]


def test_a_restore_that_is_only_told_in_a_fact_excuses_nothing() -> None:
    rows = a_chain(2, actions=(AuditEvent(at=NOW, actor="uid:0", action="x", facts={"store restored": "a"}),))
    with pytest.raises(ValueError, match="the end was cut off"):
        compared(rows, checkpoint_at(a_chain(5), 5))


def test_where_a_chain_was_written_anew_lies_between_two_checkpoints() -> None:
    rows = a_chain(9)
    other = list(chain([AuditEvent(at=NOW, actor="uid:9", action="x")] * 5, number=4, head=rows[3].hash))
    with pytest.raises(ValueError, match="from a row between 5 and 8 on"):
        compared([*rows[:4], *other], checkpoint_at(rows, 8), checkpoint_at(rows, 4))


def test_rows_that_were_lost_are_told_with_the_row_of_the_restore_and_no_others_are() -> None:
    before = a_chain(5)
    restored = AuditEvent(at=NOW, actor="uid:0", action=RESTORED, facts={"incarnation": "a"})
    rows = a_chain(3, actions=(restored,))
    checkpoints = [checkpoint_at(before, 5), checkpoint_at(rows, 3), checkpoint_at(rows, 4, incarnation="b")]
    check = ChainCheck(checkpoints)
    check.read(rows)
    assert [check.lost_by(one) for one in checkpoints] == [4, 0, 0]


def test_a_log_without_rows_has_lost_what_a_checkpoint_covers() -> None:
    assert compared([]) == []
    with pytest.raises(ValueError, match="expected 5 rows, found 0: the end was cut off, from row 1 on"):
        compared([], checkpoint_at(a_chain(5), 5))


def test_only_checkpoints_below_the_one_that_disagrees_say_where_a_chain_was_written_anew() -> None:
    rows = a_chain(5)
    other = list(chain([AuditEvent(at=NOW, actor="uid:9", action="x")] * 7, number=2, head=rows[1].hash))
    new = [*rows[:2], *other]
    with pytest.raises(ValueError, match="from a row between 3 and 5 on"):
        compared(new, checkpoint_at(rows, 5), checkpoint_at(rows, 2), checkpoint_at(new, 7))
    with pytest.raises(ValueError, match="from a row between 1 and 5 on"):
        compared(new, checkpoint_at(rows, 5), checkpoint_at(new, 7))


def of_bodies(*bodies: bytes) -> list[AuditRow]:
    rows, head = [], GENESIS
    for number, body in enumerate(bodies, start=1):
        head = link(head, body)
        rows.append(AuditRow(number=number, body=body, hash=head))
    return rows


@pytest.mark.parametrize(
    "body",
    [
        b'["store restored",' + b"[" * 200_000,
        b'"store restored" \x1b[31m',
        b'{"action":"store restored","n":' + b"9" * 5000 + b"}",
        b'"store restored\xff"',
    ],
)
def test_a_row_that_seems_to_be_a_restore_and_is_no_event_is_named(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^row 1: expected an event as the issuer writes it: ") as raised:
        compared(of_bodies(body))
    assert str(raised.value).isprintable()


def test_what_a_restore_says_is_printable() -> None:
    text = "\x1b[2J\nall fine \ud800"
    check = ChainCheck([])
    event = {"action": RESTORED, "at": text, "facts": {"incarnation": "a", "backup_of": text}}
    check.read(of_bodies(json.dumps(event).encode()))
    (restore,) = check.restores
    assert (restore.at, restore.backup_of) == ("\\x1b[2J\\nall fine \\ud800",) * 2
