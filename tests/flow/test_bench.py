"""`python -m bench`, small and short: its figures are another matter."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.catalogue import ROWS
from bench.report import check_marks, refresh
from bench.results import Measured, Result, Verdict, at_least, at_most
from bench.rig.daemons import Dev

HANGS_SECONDS = 150  # no measure: on a quiet machine the slowest takes a tenth of that
pytestmark = pytest.mark.timeout(HANGS_SECONDS + 30)


def bench(*arguments: str, environment: Mapping[str, str] = os.environ) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )


def test_rows_are_measured_against_real_daemons_and_told_as_json(tmp_path: Path) -> None:
    done = bench("--quick", "--only", "bulk,fetch_x509_open", "--output", "json", "--json", str(tmp_path / "found"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "found").read_text())
    assert [row["row"] for row in found["rows"]] == ["bulk", "fetch_x509_open"]
    assert all(row["figures"] and not row["failed"] and not row["error"] for row in found["rows"])
    assert found["machine"]["cores"] >= 1
    assert "--only bulk,fetch_x509_open" in found["command"]


def test_revocation_is_measured_from_the_command_to_verifiers_of_their_own() -> None:
    rows = ["revoke", "revoke_many", "handshakes_denied", "open_connection"]
    done = bench("--quick", "--only", ",".join(rows), "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {
        row["row"]: {one["name"]: one["value"] for one in row["figures"]} for row in json.loads(done.stdout)["rows"]
    }
    assert list(found) == rows
    assert not any(row["failed"] for row in json.loads(done.stdout)["rows"]), "every handshake after it was refused"
    revoke = found["revoke"]
    assert revoke["verifiers"] == 2
    assert 0 < revoke["last byte, p50 ms"] <= revoke["handshake, p50 ms"] <= revoke["JWTGuard, p50 ms"]
    assert revoke["receipts of all, p50 ms"] > 0
    assert found["revoke_many"]["credentials"] == 2000
    assert found["handshakes_denied"]["times none"] > 0
    assert found["open_connection"]["times plain"] > 0


def test_an_import_is_measured_without_a_daemon() -> None:
    done = bench("--quick", "--only", "import_spire", "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["samples"], row["failed"], row["error"]) == (200, 0, "")
    assert all(one["value"] > 0 for one in row["figures"])


def test_the_doors_are_measured_among_strangers() -> None:
    done = bench("--quick", "--only", "half_open", "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    figures = {one["name"]: one["value"] for one in row["figures"]}
    assert figures["from 1,000: join s"] < 30, "it came in"
    assert not row["failed"]


def test_another_workload_api_is_measured_by_its_endpoint(tmp_path: Path) -> None:
    with Dev(tmp_path) as dev:
        endpoint = f"unix://{dev.socket}"
        done = bench("--quick", "--endpoint", endpoint, "--only", "fetch_x509_new,jwt_new", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert [row["samples"] > 0 for row in json.loads(done.stdout)["rows"]] == [True, True]


def test_list_names_every_row() -> None:
    assert [line.split()[0] for line in bench("--list").stdout.splitlines()] == list(ROWS)


@pytest.mark.parametrize(
    "arguments",
    [("--only", "pushh"), ("--only", "push", "--endpoint", "unix:///run/x"), ("--endpoint", "tcp://127.0.0.1:1")],
)
def test_a_row_or_endpoint_that_cannot_be_measured_exits_2(arguments: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert "expected" in done.stderr


def test_without_h2load_the_package_is_named(tmp_path: Path) -> None:
    done = bench("--only", "jwt_cached", environment={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "nghttp2-client" in done.stderr


def test_the_worst_figure_is_the_verdict_of_a_row_and_a_failed_call_misses_it() -> None:
    goals = {"a": at_most(10, 5), "b": at_least(10, 20)}

    def verdict(a: float, b: float, failed: int = 0) -> Verdict:
        measured = Measured(figures={"a": a, "b": b, "c": 1}, samples=1, failed=failed)
        return Result(row="r", what="w", spire="", goals=goals, measured=measured).verdict()

    assert verdict(5, 20) is Verdict.BEYOND
    assert verdict(6, 20) is Verdict.REACHED
    assert verdict(5, 9) is Verdict.MISSED
    assert verdict(5, 20, failed=1) is Verdict.MISSED


def test_the_table_of_a_document_is_replaced_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "found.md"
    path.write_text("a\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nz\n")
    refresh(path, "new")
    assert path.read_text() == "a\n<!-- bench: begin -->\n\nnew\n\n<!-- bench: end -->\nz\n"
    path.write_text("no marks")
    with pytest.raises(ValueError, match="expected the lines"):
        check_marks(path)
