"""What every place for checkpoints does."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.errors import Kind, Refused
from issuer.checkpointsink.file import FileSink
from issuer.checkpointsink.port import CheckpointSink
from issuer.checkpointsink.syslog import SyslogSink
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN


def a_checkpoint(count: int) -> Checkpoint:
    return Checkpoint(
        trust_domain=TRUST_DOMAIN, incarnation="i", count=count, head=bytes(32), at=NOW, public_key=b"", signature=b""
    )


@dataclass
class Place:
    sink: CheckpointSink
    received: Callable[[], list[bytes]]
    spoil: Callable[[], object]


def _file(directory: Path) -> Place:
    path = directory / "checkpoints.jsonl"

    def spoil() -> None:
        path.unlink()
        path.mkdir()

    return Place(FileSink(path), lambda: path.read_bytes().splitlines(), spoil)


@pytest.fixture(params=["file", "syslog"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "file":
        yield _file(tmp_path)
        return
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        log.setblocking(False)
        received: list[bytes] = []

        def read() -> list[bytes]:
            while len(received) < 2:
                received.append(log.recv(65536).partition(b": ")[2])
            return received

        yield Place(SyslogSink(path), read, path.unlink)


async def test_documents_arrive_whole_and_in_order(place: Place) -> None:
    await place.sink.write(a_checkpoint(1))
    await place.sink.write(a_checkpoint(2))
    assert place.received() == [a_checkpoint(1).to_json(), a_checkpoint(2).to_json()]


async def test_a_place_that_takes_nothing_refuses_with_a_hint(place: Place) -> None:
    await place.sink.write(a_checkpoint(1))
    place.spoil()
    with pytest.raises(Refused) as refused:
        await place.sink.write(a_checkpoint(1))
    assert refused.value.kind is Kind.UNAVAILABLE
    assert refused.value.hint


async def test_the_file_is_made_private(tmp_path: Path) -> None:
    await FileSink(tmp_path / "f").write(a_checkpoint(1))
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


async def test_a_line_that_was_cut_off_is_taken_back(tmp_path: Path) -> None:
    lines = [a_checkpoint(count).to_json() + b"\n" for count in (1, 2)]
    (tmp_path / "f").write_bytes(lines[0] + lines[1][:30])
    await FileSink(tmp_path / "f").write(a_checkpoint(2))
    assert (tmp_path / "f").read_bytes() == b"".join(lines)


async def test_a_file_of_something_else_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10_000)
    await FileSink(tmp_path / "f").write(a_checkpoint(1))
    assert (tmp_path / "f").read_bytes() == b"x" * 10_000 + a_checkpoint(1).to_json() + b"\n"


async def test_a_named_pipe_that_nobody_reads_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with pytest.raises(Refused, match="regular file"):
        await FileSink(tmp_path / "f").write(a_checkpoint(1))


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "f").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused):
        await FileSink(tmp_path / "f").write(a_checkpoint(1))
    assert not (tmp_path / "elsewhere").exists()


async def test_syslog_gets_its_priority_and_our_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        await SyslogSink(tmp_path / "log").write(a_checkpoint(1))
        assert log.recv(100).startswith(b"<37>cognomen-issuer: {")
