"""cognomen/daemon/socketwatch: a socket whose file goes is told of, until it is back."""

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from cognomen.daemon.socketwatch import SocketWatch
from cognomen.daemon.troubles import Troubles
from cognomen.gate.gate import listen
from tests.doubles.clock import FakeClock
from tests.doubles.until import pass_until


async def test_a_socket_that_was_removed_or_replaced_is_told_of_until_it_is_back(tmp_path: Path) -> None:
    clock = FakeClock()
    troubles = Troubles(clock)
    path, aside = tmp_path / "s", tmp_path / "aside"
    watch = SocketWatch(path, "workload socket", hint="restart it", clock=clock, troubles=troubles)
    with listen(path, 0o600), capture_logs() as logs:
        looking = asyncio.create_task(watch.run())
        await asyncio.sleep(0)
        assert watch.missing() == []

        path.rename(aside)
        await pass_until(clock, lambda: bool(watch.missing()))
        assert watch.missing() == [f"workload socket: {path} was removed, so nobody can connect"]
        (trouble,) = troubles.all()
        assert trouble.reason == f"{path} was removed, so nobody can connect: restart it"

        path.touch()
        await pass_until(clock, lambda: "replaced" in "".join(watch.missing()))

        aside.replace(path)
        await pass_until(clock, lambda: not watch.missing())
        assert list(troubles.all()) == []
        looking.cancel()
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("error", "socket is gone, nobody can connect"),
        ("info", "socket is back"),
    ]
