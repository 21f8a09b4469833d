"""Logging is set up once in a process, so each test has one of its own."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from bench.rig.child import Child, read_all

SCRIPT = """
import logging
import structlog
from cognomen.daemon import logs

def fail():
    secret = "do not tell " + "this"
    raise ValueError("expected 1, found 2")

logs.configure("{level}")
log = structlog.get_logger()
log.info("svid issued", spiffe_id="spiffe://example.org/a")
logging.getLogger("library").warning("%s is odd", "it")
logging.getLogger("library").info("chatter")
try:
    fail()
except ValueError:
    log.exception("task failed")
"""


def events(level: str = "info") -> list[dict[str, object]]:
    script = SCRIPT.replace("{level}", level)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_programs_get_one_json_object_a_line_on_standard_error() -> None:
    first = events()[0]
    assert first.pop("timestamp")
    assert first == {"event": "svid issued", "level": "info", "spiffe_id": "spiffe://example.org/a"}


def test_what_libraries_warn_of_is_among_the_events() -> None:
    assert [(one["event"], one.get("logger")) for one in events()[1:2]] == [("it is odd", "library")]


def test_a_level_leaves_out_what_is_below_it() -> None:
    assert [one["event"] for one in events("error")] == ["task failed"]


def test_a_failure_is_told_without_local_variables() -> None:
    text = str(events()[-1]["exception"])
    assert "ValueError: expected 1, found 2" in text
    assert "do not tell this" not in text


def test_people_are_not_told_local_variables_either() -> None:
    master, slave = pty.openpty()
    with Child([sys.executable, "-c", SCRIPT.replace("{level}", "info")], stderr=slave):
        os.close(slave)
        text = read_all(master)
    assert b"svid issued" in text
    assert b"expected 1, found 2" in text
    assert b"do not tell this" not in text


def test_a_line_that_standard_error_does_not_take_ends_nothing() -> None:
    script = (
        "from cognomen.daemon import logs; import logging, structlog; logs.configure();"
        "structlog.get_logger().info('a' * 9000); logging.getLogger('b').error('c'); print('on')"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, timeout=30, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"on\n")
