"""A command that asked for a change and ends before it can print the answer says whether the change was carried out."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN
from cognomen.cli.admin import connect
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.pb import admin_pb2 as pb
from tests.flow.commandline import Command, issuer_at, socket_at

LOOK = "to see what was carried out: cognomen audit list --since 20"
SECONDS = 30


@contextmanager
def silent_issuer(path: Path) -> Iterator[socket.socket]:
    """A socket that accepts connections and never answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(SECONDS)
        yield listening


@pytest.mark.parametrize(
    ("change", "told"),
    [(("node", "invite"), True), (("node", "list"), False)],
    ids=["change", "look"],
)
def test_ctrl_c_says_whether_a_change_may_have_been_carried_out(
    change: tuple[str, ...], *, told: bool, tmp_path: Path
) -> None:
    with (
        silent_issuer(tmp_path / "s") as listening,
        Child(
            ["env", "--default-signal=INT", *COGNOMEN, *change, "--socket", str(tmp_path / "s")],
            stderr=subprocess.PIPE,
            text=True,
        ) as child,
    ):
        for _ in range(2):  # the command looks whether somebody is there, and lets it in
            listening.accept()[0].close()
        connection, _ = listening.accept()
        with connection:
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=SECONDS)
    assert child.returncode == 130
    line = "interrupted: the request was sent, so the change may have been carried out"
    assert said.strip().startswith(f"{line}\nhint: {LOOK}") if told else said.strip() == ""


def test_an_issuer_that_is_killed_before_it_answers_leaves_a_change_unknown(tmp_path: Path) -> None:
    with issuer_at(tmp_path) as issuer, connect(socket_at(tmp_path)) as admin:
        admin.get_status()
        os.kill(issuer.pid, signal.SIGSTOP)
        threading.Timer(1.0, issuer.kill).start()
        with pytest.raises(Refused) as refused:
            admin.create_invite(pb.CreateInviteRequest())
    assert (refused.value.kind, refused.value.detail) == (
        Kind.UNAVAILABLE, "issuer: expected an answer, found the end of the connection",
    )  # fmt: skip
    assert refused.value.hint.startswith(f"the change may have been carried out; {LOOK}")


@pytest.mark.parametrize(
    ("streams", "told", "made"),
    [
        (
            "> /dev/full",
            "the change was carried out, but its answer could not be written: standard output: no space",
            1,
        ),
        (">&-", "standard output: it is closed", 0),
    ],
)
def test_an_answer_that_cannot_be_written_is_told_from_a_change_that_was_not_made(
    streams: str, told: str, made: int, command: Command, admin_socket: Path
) -> None:
    rows = ("audit", "list", "--action", "invite created", "--all", "-o", "json")
    before = len(command(*rows).rows("rows"))
    done = subprocess.run(
        ["bash", "-c", f'"$@" {streams}', "bash", *COGNOMEN, "node", "invite", "--socket", str(admin_socket)],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"error: {told}" in done.stderr
    assert (f"hint: {LOOK}" in done.stderr) is bool(made)
    assert len(command(*rows).rows("rows")) == before + made
