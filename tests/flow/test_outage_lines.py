"""How much an attestor writes while its issuer is away: the fault at once, then a line a minute, and the end of it."""

from collections import Counter
from datetime import timedelta

from structlog.testing import capture_logs

from cognomen.protocol.entry import EntryID
from svid.spiffeid import TrustDomain
from tests.doubles.attestorflows import running_flows
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.until import pass_until, until

FAULTS = {
    "feed failed, following again": "feed followed again",
    "SVIDs not minted": "SVIDs minted again",
    "node SVID not renewed": "node SVID renewed again",
}


async def test_an_outage_is_a_line_a_minute_of_each_loop_and_one_when_it_is_over() -> None:
    clock = FakeClock()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"))
    issuer.put(entry("web"))
    async with running_flows(issuer, clock) as flows:
        await until(lambda: EntryID("web") in flows.cache.svids)
        clock.advance(timedelta(minutes=31))  # past half of every life
        issuer.set_reachable(reachable=False)
        start = clock.monotonic()
        with capture_logs() as lines:
            await pass_until(clock, lambda: clock.monotonic() - start > 300)
            lasted = (clock.monotonic() - start) / 60
            during = Counter(line["event"] for line in lines if line["log_level"] == "warning")
            left_out = Counter[str]()
            for line in lines:
                left_out[line["event"]] += line.get("left_out", 0)
            issuer.set_reachable(reachable=True)
            await pass_until(
                clock,
                lambda: (
                    {line["event"] for line in lines} >= {"feed followed again"} and not flows.around.troubles.all()
                ),
            )
    assert during["feed failed, following again"] > 1
    assert left_out["feed failed, following again"] > during["feed failed, following again"]
    for event, over in FAULTS.items():
        reasons = {line["reason"] for line in lines if line["event"] == event}
        assert during[event] <= (lasted + 1) * max(1, len(reasons)), event
        assert sum(line["event"] == over for line in lines) == (1 if reasons else 0), over
