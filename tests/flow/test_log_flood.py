"""What strangers say at the join door does not fill the log of a real issuer."""

import asyncio
from pathlib import Path

import grpc

from cognomen.protocol.invite import Invite
from tests.flow.issuer_harness import secure_channel
from tests.flow.twodaemons import World

CALLS = 500
MOST_BYTES = 64 * 1024


async def flood(invite: Invite) -> set[grpc.StatusCode]:
    statuses = set()
    async with secure_channel(invite.join_address, invite.bundle.to_pem()) as channel:
        for number in range(CALLS):
            method = ("Readmit", "GetBundle", "BeginReadmission")[number % 3]
            call = channel.unary_unary(
                f"/cognomen.node.v1.Join/{method}", request_serializer=bytes, response_deserializer=bytes
            )(b"\xff\xff\xff garbage", timeout=10)
            statuses.add(await call.code())
    return statuses


def test_a_stranger_with_bytes_that_are_no_message_does_not_fill_the_log(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.issuer.start()
    try:
        invite = Invite.parse(str(world.command("node", "invite")["invite"]))
        before = len(world.issuer.log())
        statuses = asyncio.run(flood(invite))
        grown = len(world.issuer.log()) - before
    finally:
        world.issuer.stop()
    assert statuses == {grpc.StatusCode.INVALID_ARGUMENT}
    assert grown < MOST_BYTES
