"""cognomen/gate/turnedaway: who is turned away at a socket is told of, and takes nobody else's line."""

import os
import socket
from pathlib import Path

from structlog.testing import capture_logs

from cognomen.gate.gate import Limits, listen
from cognomen.gate.turnedaway import TurnedAway
from cognomen.gate.unixrpc import serve
from cognomen.protocol.errors import Kind, Refused
from svid.linelimit import LineLimit
from tests.doubles.gated import Doing, answer, raw, translate

MINUTE = 60.0


def test_each_uid_and_reason_has_a_line_at_once_and_then_one_a_minute() -> None:
    counted: list[Kind] = []
    away = TurnedAway(lambda kind, times: counted.extend([kind] * times))
    full, unknown = Refused(Kind.EXHAUSTED, "too many", hint="fewer"), Refused(Kind.UNAUTHENTICATED, "who?\n")
    with capture_logs() as logs:
        for _ in range(3):
            away.tell(1000, full, 0.0)
        away.tell(1001, full, 1.0)
        away.tell(1000, unknown, 1.0)
        away.tell(1001, unknown, 1.0)
        away.tell(1000, full, MINUTE, times=3)
    told = [(line["uid"], line["reason"], line["left_out"]) for line in logs]
    assert told == [
        (1000, "too many", 0),
        (1001, "too many", 0),
        (1000, "who?\\n", 0),
        (1001, "who?\\n", 0),
        (1000, "too many", 4),
    ]
    assert {line["log_level"] for line in logs} == {"warning"}
    assert counted == [Kind.EXHAUSTED] * 4 + [Kind.UNAUTHENTICATED] * 2 + [Kind.EXHAUSTED] * 3


def test_a_thousand_uids_have_as_many_lines_as_there_is_room_and_those_that_are_forgotten_are_counted() -> None:
    lines = LineLimit(2)
    assert [lines.left_out(who, 0.0) for who in ("a", "a", "b", "c", "d")] == [0, None, 0, 0, None]
    assert lines.left_out("e", MINUTE) == 0  # a and b are forgotten
    assert [lines.left_out(who, MINUTE) for who in ("f", "g", "h")] == [0, 2, None]


async def test_a_connection_too_many_is_told_of_with_its_uid(tmp_path: Path) -> None:
    counted: list[Kind] = []
    limits = Limits(connections_per_uid=1)
    path = tmp_path / "s"
    with capture_logs() as logs:
        async with serve(
            listen(path, 0o600),
            lambda _: [Doing(answer)],
            limits,
            translate=translate,
            turned_away=TurnedAway(lambda kind, times: counted.extend([kind] * times)),
        ):
            with socket.socket(socket.AF_UNIX) as first:
                first.setblocking(False)
                first.connect(str(path))
                assert b"too many, expected at most 1" in await raw(path)
    (line,) = [one for one in logs if one["event"] == "connection refused"]
    assert line["uid"] == os.geteuid()
    assert counted == [Kind.EXHAUSTED]


async def test_whoever_connects_and_leaves_was_not_refused(tmp_path: Path) -> None:
    """Each command of ours does that once, to see whether anybody listens; its line would take that of a true refusal."""
    counted: list[Kind] = []
    path = tmp_path / "s"
    with capture_logs() as logs:
        async with serve(
            listen(path, 0o600),
            lambda _: [Doing(answer)],
            Limits(),
            translate=translate,
            turned_away=TurnedAway(lambda kind, times: counted.extend([kind] * times)),
        ):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
            await raw(path, b"x" * 24)  # came after it, and was attended to
    assert [one["event"] for one in logs if one["log_level"] == "warning"] == []
    assert counted == []
