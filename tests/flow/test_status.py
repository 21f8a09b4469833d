"""How the daemons are, by the command: with what fails, until it went well again."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from svid.wire.pb import denials_pb2
from svid.workloadapi.sources import X509Source
from tests.doubles.passable import passable_directory
from tests.flow.twodaemons import World

NOBODY = 65534


@contextmanager
def following(path: Path) -> Iterator[dict[str, object]]:
    """Follow the denials and say that they are enforced; what is to be told of that."""
    header, seconds = (("workload.spiffe.io", "true"),), 20
    with grpc.insecure_channel(f"unix:{path}") as channel:
        follow = channel.unary_stream(
            "/cognomen.workload.v1.Denials/Follow",
            request_serializer=denials_pb2.FollowRequest.SerializeToString,
            response_deserializer=denials_pb2.Denied.FromString,
        )
        enforced = channel.unary_unary(
            "/cognomen.workload.v1.Denials/Enforced",
            request_serializer=denials_pb2.EnforcedRequest.SerializeToString,
            response_deserializer=denials_pb2.EnforcedResponse.FromString,
        )
        words = follow(denials_pb2.FollowRequest(), metadata=header, timeout=seconds)
        word = next(words)
        request = denials_pb2.EnforcedRequest(epoch=word.epoch, point="guard 1")
        enforced(request, metadata=header, timeout=seconds)
        epoch = {"incarnation": word.epoch.incarnation, "change_number": word.epoch.number}
        yield {"point": "guard 1", **epoch}


def test_both_daemons_tell_how_they_are_and_what_fails_until_it_is_over(tmp_path: Path) -> None:
    world = World(tmp_path)  # with node SVIDs of hours: those of seconds come with a new feed at each renewal
    socket = f"--socket={world.workload}"
    with world.running():
        issuer = world.command("status")
        assert (issuer["trust_domain"], issuer["nodes"], issuer["nodes_connected"]) == ("example.org", 1, 1)
        assert re.fullmatch(r"\d+s", str(issuer["oldest_truth"]))
        attestor = world.command("status", "attestor", "--identities", socket)
        assert (attestor["connected"], attestor["synchronised"], attestor["entries"]) == (True, True, 1)
        identities = attestor["identities"]
        assert isinstance(identities, list)
        assert identities[0]["spiffe_id"] == "spiffe://example.org/web"
        assert attestor["callers"] == attestor["enforced"] == []
        assert attestor["denials"] == 0
        with following(world.workload) as point:
            enforced = world.command("status", "attestor", "--enforced", socket)
            assert enforced["enforced"] == [{"pid": os.getpid(), "uid": os.getuid(), **point}]
        with X509Source(f"unix://{world.workload}"):
            callers = world.command("status", "attestor", "--callers", socket)["callers"]
        assert callers == [{"pid": os.getpid(), "uid": os.getuid(), "streams": 1}]
        world.issuer.kill()
        while "\nfeed " not in (troubled := world.run("status", "attestor", socket)).stdout:
            pass
        assert troubled.returncode == 1
        assert "connected       no" in troubled.stdout
        world.issuer.start()
        while (well := world.run("status", "attestor", socket)).returncode != 0:
            pass
        assert "connected       yes" in well.stdout


def test_nobody_there_is_told_with_the_next_step(tmp_path: Path) -> None:
    world = World(tmp_path)
    for arguments in (("status",), ("status", "attestor", f"--socket={world.workload}")):
        done = world.run(*arguments)
        assert done.returncode == 3
        assert "hint:" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another uid needs root")
def test_another_user_learns_nothing_of_an_attestor() -> None:
    with passable_directory() as directory:
        world = World(directory)
        with world.running():
            world.workload.parent.chmod(0o755)
            program = (
                "import os, sys, cognomen.cli.main, cognomen.cli.status, cognomen.cli.admin\n"
                f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
                f"sys.exit(cognomen.cli.main.run(['status', 'attestor', '--socket={world.workload}']))"
            )
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
            )
            assert done.returncode == 5, done.stderr
            assert "only the attestor's user and root may ask for it" in done.stderr
