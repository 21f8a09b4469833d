"""`cognomen agent retire` at running daemons, under traffic: calls are refused from then on, and the name stays retired."""

import os
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from svid.clock import SystemClock
from svid.errors import SVIDError
from svid.tls.authorize import exactly
from svid.tls.context import LiveContext, client_context, server_context
from svid.workloadapi.sources import X509Source
from svid.x509svid import X509SVID
from tests.doubles.identity import Identity
from tests.flow.twodaemons import World

pytestmark = pytest.mark.timeout(120)

OWN = "/agent/tested/own"
RULES = f"""\
[agent.tested]
owner = "ann@example.org"
purpose = "is tested"
nodes = "any"

[agent.tested.component.own]
kind = "other"
selectors = ["unix:uid:{os.getuid()}"]
"""


def of(svids: Sequence[X509SVID], path: str) -> X509SVID:
    return next(one for one in svids if one.spiffe_id.path == path)


def calls(client: LiveContext, server: LiveContext, pool: ThreadPoolExecutor) -> bool:
    """Whether a call on a new connection is answered."""
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)

    def answer() -> None:
        with closing(far), closing(server.wrap_socket(far, server_side=True)) as theirs:
            theirs.sendall(theirs.recv(1))

    answering = pool.submit(answer)
    try:
        with closing(near), closing(client.wrap_socket(near)) as mine:
            mine.sendall(b"?")
            is_answered = mine.recv(1) == b"?"
    except (OSError, SVIDError):
        is_answered = False
    try:
        answering.result(20)
    except (OSError, SVIDError, ssl.SSLError):
        return False
    return is_answered


def test_a_retired_agent_is_refused_at_once_and_stays_retired(tmp_path: Path) -> None:
    world, file = World(tmp_path), tmp_path / "rules.toml"
    file.write_text(RULES)
    with world.running(), ThreadPoolExecutor(1) as pool:
        assert world.run("apply", str(file)).returncode == 0
        while OWN not in world.run("fetch", "x509", f"--socket={world.workload}", "-o", "json").stdout:
            pass  # pytest's timeout ends it
        with X509Source(f"unix://{world.workload}", pick=partial(of, path="/web")) as service:
            with X509Source(f"unix://{world.workload}", pick=partial(of, path=OWN)) as source:
                held = Identity(
                    source.svid, *source.bundles.values()
                )  # it keeps what it has, whatever the attestor says
            server = server_context(service, exactly(held.svid.spiffe_id))
            client = client_context(held, exactly(service.svid.spiffe_id))
            assert calls(client, server, pool)
            # Its rows name it, and the revision.
            (row, *_) = world.listed("svid", "credentials", f"--component={OWN.removeprefix('/agent/')}", "--live")
            assert (row["agent"], row["component"], row["rulebook"]) == ("tested", "own", 1)
            who = world.command("audit", "who", "--agent=tested", "--at=now")["credentials"]
            assert isinstance(who, list)
            assert {(one["agent"], one["component"]) for one in who} == {("tested", "own")}
            # It is active: a slip of the fingers retires nobody.
            assert world.run("agent", "retire", "tested").returncode == 1
            assert calls(client, server, pool)
            # Retired under traffic.
            done = world.run("agent", "retire", "tested", "--force", "--comment=over")
            ended = SystemClock().monotonic()
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("tested: retired for good; 2 entries deleted, ")
            assert "0 credentials" not in done.stdout
            while calls(client, server, pool):
                pass
            print(f"refused {1000 * (SystemClock().monotonic() - ended):.0f} ms after the end of the command")  # noqa: T201 - a figure for whoever looks
        # Nothing brings it back.
        assert OWN not in world.run("fetch", "x509", f"--socket={world.workload}", "-o", "json").stdout
        planned = world.run("plan", str(file))
        assert (planned.returncode, "rules.toml:1: agent tested: retired by uid:" in planned.stderr) == (1, True)
        file.write_text("")
        assert world.run("apply", str(file)).returncode == 0
        back = world.run("rulebook", "rollback", "1")
        assert (back.returncode, "a retired name never comes back" in back.stderr) == (1, True)
        owners = world.command("agent", "owner", "tested")["owners"]
        assert isinstance(owners, list)
        assert [(one["owner"], one["revision"], bool(one["until"])) for one in owners] == [("ann@example.org", 1, True)]
        verified = world.run("audit", "verify")
        assert verified.returncode == 0, verified.stderr
        actions = [one["action"] for one in world.listed("audit", "rows", "--agent=tested")]
        assert {"entry created", "x509 issued", "agent retired", "revoked", "entry deleted"} <= set(actions)
    with world.issuer:
        assert world.run("rulebook", "rollback", "1").returncode == 1, "also after a restart"
