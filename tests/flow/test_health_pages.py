"""/live, /ready and /metrics of both daemons, as a probe and a collector see them."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.rig.daemons import free_port
from cognomen.cli.main import run
from tests.flow.twodaemons import World


class Observed(World):
    """Both daemons with their pages."""

    def __init__(self, directory: Path) -> None:
        self.ports = {"issuer": free_port(), "attestor": free_port()}
        addresses = {daemon: f"--health-address=127.0.0.1:{port}" for daemon, port in self.ports.items()}
        super().__init__(directory, addresses["issuer"], attestor_options=(addresses["attestor"],))

    def ask(
        self, daemon: str, path: str, *, method: str = "GET", accept: str = "*/*"
    ) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[daemon], timeout=20)
        connection.request(method, path, headers={"accept": accept})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, answer.headers

    def wait_until_it_lacks(self, missing: str) -> None:
        """Ask the attestor until this is what it says."""
        while True:
            with contextlib.suppress(ConnectionError):  # reset: it met the look whether the address is free
                if self.ask("attestor", "/ready")[:2] == (503, f"{missing}\n"):
                    return

    def metrics(self, daemon: str) -> dict[str, float]:
        """The sums of all metrics by name."""
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(self.ask(daemon, "/metrics")[1]):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0) + sample.value
        return sums


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    world = Observed(tmp_path_factory.mktemp("h"))
    with world.running():
        assert world.run("fetch", "jwt", "--audience=db", f"--socket={world.workload}").returncode == 0
        yield world


DAEMONS = pytest.mark.parametrize("daemon", ["issuer", "attestor"])


@DAEMONS
@pytest.mark.parametrize("path", ["/live", "/ready", "/ready?verbose=1"])
def test_a_daemon_that_serves_is_live_and_ready(world: Observed, daemon: str, path: str) -> None:
    status, text, headers = world.ask(daemon, path)
    assert (status, text) == (200, "ok\n")
    assert headers["cache-control"] == "no-store"
    assert json.loads(world.ask(daemon, path, accept="application/json")[1]) == {"ready": True, "missing": []}


@DAEMONS
def test_head_is_the_same_without_a_body(world: Observed, daemon: str) -> None:
    status, text, headers = world.ask(daemon, "/ready", method="HEAD")
    assert (status, text, headers["content-length"]) == (200, "", "3")


@DAEMONS
@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/live", 405), ("GET", "/", 404), ("GET", "/x", 404)])
def test_other_pages_and_methods_are_refused(world: Observed, daemon: str, method: str, path: str, status: int) -> None:
    found, text, headers = world.ask(daemon, path, method=method)
    assert found == status
    assert text == f"{HTTPStatus(status).phrase.lower()}\n"
    assert (status == 405) == (headers.get("allow") == "GET, HEAD")


def test_the_issuer_counts_what_it_did(world: Observed) -> None:
    found = world.metrics("issuer")
    moved = ("svids_signed_total", "entries_changed_total", "authority_steps_total", "change_number", "nodes", "feeds")
    assert {name for name in moved if not found[f"cognomen_issuer_{name}"]} == set()
    assert found["cognomen_issuer_svid_renewals_total"] >= 0
    assert found["cognomen_issuer_clock_trusted"] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_the_attestor_counts_what_it_did(world: Observed) -> None:
    found = world.metrics("attestor")
    moved = ("renewals_total", "feed_connected", "synchronised", "entries", "svids", "jwt_svids", "change_number")
    assert {name for name in moved if not found[f"cognomen_attestor_{name}"]} == set()


@DAEMONS
def test_the_tasks_of_a_daemon_that_is_well_were_never_started_again(world: Observed, daemon: str) -> None:
    assert world.metrics(daemon)[f"cognomen_{daemon}_task_restarts_total"] == 0


def test_an_attestor_without_its_issuer_says_what_is_missing(tmp_path: Path) -> None:
    world = Observed(tmp_path)
    with world.running():
        world.attestor.stop()
        world.issuer.kill()
        with world.attestor_that_waits():
            world.wait_until_it_lacks("snapshot: none from the issuer since the start")
            assert world.ask("attestor", "/live")[0] == 200


def test_an_attestor_that_has_not_joined_yet_is_live_and_says_so(tmp_path: Path) -> None:
    world = Observed(tmp_path)
    with world.issuer:
        world.command("node", "invite", f"--write={tmp_path}/invite")
    with world.attestor_that_waits(f"--invite={tmp_path}/invite"):
        world.wait_until_it_lacks("node: has not joined its issuer yet")
        assert world.ask("attestor", "/live")[0] == 200
        assert world.metrics("attestor")["cognomen_attestor_feed_connected"] == 0


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:9091",
        "example.org:80",
        "9091",
        "127.0.0.1:x",
        "127.0.0.1:70000",
        "::1:9091",
        "127.0.0.1]:9091",
        "[[::1]:80",
        "[127.0.0.1]:80x",
        "localhost:9091",
    ],
)
@DAEMONS
def test_an_address_that_is_not_of_loopback_is_refused(
    daemon: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([daemon, "check", "--trust-domain", "example.org", "--health-address", address]) == 1
    assert "health_address: expected a loopback address" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.2:9091", "[::1]:9091"])
@DAEMONS
def test_an_address_of_loopback_is_taken(daemon: str, address: str) -> None:
    assert run([daemon, "check", "--trust-domain", "example.org", "--health-address", address]) == 0


def test_a_key_that_is_true_or_false_has_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for text, value in (("true", True), ("false", False)):
        options = ["--trust-domain=example.org", "--output=json", "--audit-checkpoint-syslog", text]
        assert run(["issuer", "check", *options]) == 0
        assert json.loads(capsys.readouterr().out)["audit_checkpoint_syslog"] is value


def test_an_address_that_is_taken_is_named(world: Observed, tmp_path: Path) -> None:
    options = [f"--state={tmp_path}/s", f"--admin-socket={tmp_path}/a/s", "--trust-domain=example.org"]
    options += ["--node-address=127.0.0.1:0", "--join-address=127.0.0.1:0"]
    done = world.run("issuer", "run", *options, f"--health-address=127.0.0.1:{world.ports['issuer']}")
    assert done.returncode == 3
    assert "health_address: cannot bind 127" in done.stderr
