"""deploy/examples/rules.yml: the shell commands of its steps, run as they stand, against a real issuer."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.doubles.project import ROOT
from tests.flow.commandline import issuer_at, socket_at

EXAMPLE = ROOT / "deploy" / "examples" / "rules.yml"
JOBS = yaml.safe_load(EXAMPLE.read_text())["jobs"]
RULES = """
[agent.concierge]
owner = "travel-platform@example.org"
purpose = "books trips for employees"
nodes = "any"

[agent.concierge.component.crm]
kind = "connector"
selectors = ["unix:uid:1003"]

[[case]]
name = "the connector is itself"
selectors = ["unix:uid:1003"]
expect = ["concierge/crm"]
"""
OVERLAP = """
[agent.concierge.component.other]
kind = "other"
selectors = ["unix:gid:5"]
allow = ["any-user"]
"""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A machine that runs jobs in a checkout."""

    checkout: Path
    environment: dict[str, str]

    @property
    def summary(self) -> str:
        return (self.checkout / "summary.md").read_text()

    def write(self, rules: str) -> None:
        (self.checkout / "rules" / "concierge.toml").write_text(rules)

    def run(self, job: str) -> tuple[int, str]:
        """Run the steps of a job until one fails; returns its exit code and its name."""
        for step in JOBS[job]["steps"]:
            if "run" not in step:
                continue
            done = subprocess.run(
                ["/bin/bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
                cwd=self.checkout, env=self.environment, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            if done.returncode:
                return done.returncode, step["name"]
        return 0, ""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    for name in ("i", "bin", "checkout", "checkout/rules"):
        (tmp_path / name).mkdir()
    command = tmp_path / "bin" / "cognomen"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cognomen "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COGNOMEN_ADMIN_SOCKET": str(socket_at(tmp_path / "i")),
        "GITHUB_SHA": "4f1c0de",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "checkout" / "summary.md"),
    }
    with issuer_at(tmp_path / "i"):
        yield Runner(checkout=tmp_path / "checkout", environment=environment)


def test_a_change_is_checked_planned_and_after_the_merge_applied(runner: Runner) -> None:
    runner.write(RULES)
    assert runner.run("check") == (0, "")
    assert runner.run("plan") == (0, "")
    assert runner.summary.startswith("```diff\n")
    assert "+ /agent/concierge/crm" in runner.summary
    assert runner.run("apply") == (0, "")
    history = subprocess.run(
        ["/bin/sh", "-c", "cognomen rulebook history"], env=runner.environment, capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip
    assert "4f1c0de" in history.stdout
    assert runner.run("plan") == (0, "")
    assert runner.summary == "Nothing would change.\n"
    assert runner.run("apply") == (0, ""), "a merge that changes no rule"


def test_a_wrong_change_stops_before_the_issuer_is_asked(runner: Runner) -> None:
    runner.write(RULES + OVERLAP)
    assert runner.run("check") == (1, "Prove")
    runner.write(RULES.replace('expect = ["concierge/crm"]', "expect = []"))
    assert runner.run("check") == (1, "Test")
    runner.write(RULES.replace("owner", "ownr"))
    assert runner.run("check") == (1, "Prove")
    assert runner.run("plan")[0] not in {0, 2}, "what cannot be planned fails the job"


def test_a_plan_that_was_not_made_is_no_plan(runner: Runner) -> None:
    """Wrong usage ends with 2, as a plan does that changes something."""
    runner.write(RULES)
    command = runner.checkout.parent / "bin" / "cognomen"
    command.write_text(command.read_text().replace('"$@"', '"$@" --no-such-option'))
    assert runner.run("plan") == (1, "Plan")
    (runner.checkout / "plan.json").write_text("of an earlier run")
    assert runner.run("apply") == (1, "Plan")


def test_a_plan_is_not_applied_after_somebody_else_applied_another(runner: Runner) -> None:
    runner.write(RULES)
    plan, apply = (step for step in JOBS["apply"]["steps"] if "run" in step)
    shell = ["/bin/bash", "-e", "-c"]
    assert (
        subprocess.run(
            [*shell, plan["run"]], cwd=runner.checkout, env=runner.environment, timeout=60, check=False
        ).returncode
        == 0
    )
    runner.write(RULES.replace("1003", "1004"))
    other = "cognomen apply rules"
    assert (
        subprocess.run([*shell, other], cwd=runner.checkout, env=runner.environment, timeout=60, check=False).returncode
        == 0
    )
    done = subprocess.run(
        [*shell, apply["run"]], cwd=runner.checkout, env=runner.environment, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert (done.returncode, "plan again" in done.stderr) == (1, True), done.stderr


def test_only_protected_jobs_reach_the_issuer() -> None:
    for name, job in JOBS.items():
        reaches = any("plan" in step.get("run", "") or "apply" in step.get("run", "") for step in job["steps"])
        assert (job.get("environment") == "issuer") == reaches, name
