"""A caller with very many identities: a message that stock clients take, the first of them first, and a word in the log."""

import asyncio
import os
import re
from collections.abc import Sequence
from datetime import timedelta

from structlog.testing import capture_logs

from attestor.decisions.clocks import Reading
from attestor.decisions.update import NoMessage, Send, Trust, Update, X509Message, x509_update
from attestor.flows.explain_identity import ExplainIdentity
from cognomen.gate.caller import process_of
from svid.spiffeid import SpiffeID
from svid.wire.workload import X509Context, write_x509_context
from svid.x509svid import X509SVID
from tests.doubles.clock import FakeClock
from tests.doubles.workloadside import WorkloadSide, entry

CLIENTS_TAKE = 4 * 1024 * 1024
UID = f"unix:uid:{os.geteuid()}"


def an_svid(side: WorkloadSide) -> X509SVID:
    side.synchronise(entry("one", UID))
    (held,) = side.cache.svids.values()
    return held.svid


def update(side: WorkloadSide, svids: Sequence[X509SVID], last: X509Message | None = None) -> Update[X509Message]:
    entries = [entry(f"n{number:05}", UID) for number in range(len(svids))]
    now = side.clock.now()
    at = Reading(own=now, issuer=now, monotonic=0, silent=timedelta())
    held = dict(zip((one.id for one in entries), svids, strict=True))
    return x509_update(entries, held, Trust(bundle=side.bundle), last=last, at=at)


def test_of_too_many_the_first_are_sent_as_many_as_fit() -> None:
    side = WorkloadSide(clock=FakeClock())
    svids = [an_svid(side)] * 5000
    found = update(side, svids)
    assert isinstance(found, Send)
    message = found.message
    assert len(message.svids) + message.left_out == 5000
    context = X509Context(svids=message.svids, bundles={side.bundle.trust_domain: side.bundle})
    written = write_x509_context(context).ByteSize()
    assert CLIENTS_TAKE * 0.9 < written <= CLIENTS_TAKE
    assert update(side, svids, last=message) is NoMessage.UNCHANGED


def test_what_is_left_out_is_news_where_there_is_more_of_it() -> None:
    side = WorkloadSide(clock=FakeClock())
    svids = [an_svid(side)] * 5000
    found = update(side, svids)
    assert isinstance(found, Send)
    assert isinstance(update(side, [*svids, *svids[:1]], last=found.message), Send)


def side_of_many(clock: FakeClock) -> WorkloadSide:
    side = WorkloadSide(clock=clock)
    svid = an_svid(side)
    many = [entry(f"n{number:05}", UID) for number in range(5000)]
    side.synchronise(*many, mint=False)
    side.cache.hold(side.holding(one, svid) for one in many)
    return side


async def test_an_explanation_says_how_many_are_left_out() -> None:
    side, node = side_of_many(FakeClock()), SpiffeID.parse("spiffe://example.org/cognomen/node/join_token/1")
    explain = ExplainIdentity(cache=side.cache, node=lambda: node, workloads=side.flow(), clock=side.clock)
    caller = process_of(os.getpid())
    found = await explain(caller, 0, sees_all=True)
    caller.process.close()
    assert len(found.matches) == 5000
    sent = update(side, [held.svid for held in side.cache.svids.values()])
    assert isinstance(sent, Send)
    assert found.left_out == sent.message.left_out > 0


async def test_that_some_were_left_out_is_a_trouble_while_it_is_so_and_logged_once_a_minute() -> None:
    clock = FakeClock()
    side = side_of_many(clock)
    caller, flow = process_of(os.getpid()), side.flow()

    async def first() -> None:
        came = asyncio.Event()

        async def send(_: X509Message) -> None:
            came.set()

        watching = asyncio.create_task(flow.watch_x509(caller, send))
        await came.wait()
        (trouble,) = side.troubles.all()
        assert trouble.what == f"identities of one caller of uid {os.geteuid()}"
        assert re.search(r"[1-9]\d* more are left out; clients accept messages of up to 4 MiB", trouble.reason)
        watching.cancel()
        await asyncio.wait([watching])
        assert not side.troubles.all()

    with capture_logs() as logs:
        await first()
        await first()
        clock.advance(61)
        await first()
    caller.process.close()
    told = [one for one in logs if one["event"] == "identities left out"]
    assert [one["uid"] for one in told] == [os.geteuid()] * 2
    assert told[0]["handed"] + told[0]["left_out"] == 5000
