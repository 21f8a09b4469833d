"""attestor/cache: what is held, and who is woken."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from attestor.cache import Cache, HeldX509
from attestor.decisions.clocks import Reading
from attestor.decisions.sync import Change
from attestor.deniallog import DenialLog
from attestor.streams import Subscription
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.selector import Selector
from issuer.decisions.feedsteps import in_order
from svid.bundle import Bundle
from svid.denials import Denial
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID
from tests.doubles.clock import FakeClock
from tests.doubles.entries import UID_1000, entry
from tests.doubles.issuerclient import Authority

TD = TrustDomain("example.org")
SOMEBODY = (1000, 1)
CLOCK = FakeClock()
NOW = CLOCK.now()
AUTHORITY = Authority(TD, CLOCK)
HOUR = timedelta(hours=1)
OTHER = frozenset({Selector("unix", "uid:2")})
NEEDS_UIDS = entry("somebody", selectors=frozenset({Selector("unix", "uid:77777")}))
WEB, DB = entry("web"), entry("db", selectors=OTHER)


def change(
    *entries: RegistrationEntry,
    snapshot: bool = False,
    gone: Iterable[str] = (),
    bundle: Bundle | None = None,
    denied: Iterable[int] = (),
) -> Change:
    denials = (Denial(number, NOW + HOUR) for number in denied)
    updates = in_order(denials=denials, bundle=bundle, gone=map(EntryID, gone), entries=entries)
    return Change(cursor=Cursor(incarnation="a", number=1), snapshot=snapshot, updates=tuple(updates))


def held(one: RegistrationEntry) -> HeldX509:
    key = generate_private_key(KeyKind.EC_P256)
    leaf = AUTHORITY.sign(one.spiffe_id, key.public_key(), ttl=HOUR)
    return HeldX509(entry=one, svid=X509SVID(spiffe_id=one.spiffe_id, chain=(leaf,), private_key=key), issued_at=NOW)


def empty() -> Cache:
    return Cache(Bundle(trust_domain=TD), DenialLog())


def cache_of(*entries: RegistrationEntry) -> Cache:
    cache = empty()
    cache.apply(change(*entries, snapshot=True))
    return cache


async def is_woken(subscription: Subscription) -> bool:
    try:
        async with asyncio.timeout(0):
            await subscription.changed()
    except TimeoutError:
        return False
    return True


def test_whoever_asks_to_be_told_hears_in_the_same_step_whether_callers_are_served() -> None:
    cache, told = empty(), list[bool]()
    cache.tell_serving(told.append)
    assert told == [False]
    cache.apply(change(entry("web"), snapshot=True))
    assert told == [False, True]
    cache.apply(change(entry("api")))
    assert told == [False, True]
    cache.withdraw("sent away")
    assert told == [False, True, False]
    cache.apply(change(entry("web"), snapshot=True))
    assert told == [False, True, False, True]


def test_before_the_first_snapshot_there_is_no_view() -> None:
    with pytest.raises(Refused) as refused:
        empty().view(UID_1000)
    assert refused.value.kind is Kind.UNAVAILABLE


def test_a_node_that_was_sent_away_before_the_first_snapshot_gives_nobody_anything_and_checks_nothing() -> None:
    cache, told = empty(), list[bool]()
    cache.tell_serving(told.append)
    cache.withdraw("sent away")
    assert (cache.view(UID_1000).entries, cache.serving, any(told)) == ((), False, False)
    with pytest.raises(Refused, match="not synchronised with the issuer yet: sent away") as refused:
        cache.bundle_to_check_with()
    assert refused.value.kind is Kind.UNAVAILABLE
    cache.apply(change(WEB, snapshot=True))
    assert (cache.view(UID_1000).entries, cache.serving) == ((WEB,), True)
    assert cache.bundle_to_check_with() is cache.bundle


def test_a_view_has_what_matches_and_the_svids_that_are_there() -> None:
    cache = cache_of(WEB, DB, entry("api"))
    web = held(WEB)
    cache.hold([web, held(DB)])
    view = cache.view(UID_1000)
    assert [one.id for one in view.entries] == ["api", "web"]
    assert view.svids == {WEB.id: web}


def test_a_changed_entry_is_found_by_its_new_selectors_only() -> None:
    cache = cache_of(WEB)
    cache.apply(change(entry("web", selectors=OTHER)))
    assert cache.view(UID_1000).entries == ()
    assert len(cache.view(OTHER).entries) == 1


def test_the_facts_needed_are_those_of_the_entries_that_are_there() -> None:
    path = frozenset({Selector("unix", "path:/bin/x"), Selector("unix", "uid:1")})
    cache = cache_of(WEB, entry("a", selectors=path))
    assert cache.needed_facts() == {"unix:uid", "unix:path"}
    cache.apply(change(entry("a", selectors=UID_1000)))
    assert cache.needed_facts() == {"unix:uid"}
    cache.apply(change(gone=["a", "web"]))
    assert cache.needed_facts() == frozenset()


def test_a_minted_svid_whose_entry_has_left_is_not_held() -> None:
    cache = cache_of(DB)
    cache.hold([held(WEB)])
    assert not cache.svids


def test_a_minted_svid_whose_entry_got_another_name_meanwhile_is_not_held() -> None:
    web = held(WEB)
    cache = cache_of(entry("web", spiffe_id=SpiffeID.parse("spiffe://example.org/new")))
    cache.hold([web])
    assert not cache.svids


async def test_an_svid_that_is_denied_is_out_of_service_at_once_and_whoever_has_it_is_woken() -> None:
    cache = cache_of(WEB, DB)
    web, db = held(WEB), held(DB)
    cache.hold([web, db])
    with cache.subscribe(UID_1000, who=SOMEBODY) as concerned, cache.subscribe(OTHER, who=SOMEBODY) as other:
        cache.apply(change(denied=[web.svid.serial]))
        assert (await is_woken(concerned), await is_woken(other)) == (True, False)
    assert cache.svids == {DB.id: db}
    assert cache.take_denied() == {WEB.id}
    assert not cache.take_denied()


def test_a_denial_holds_for_what_the_same_step_brings_and_for_what_comes_later() -> None:
    web = held(WEB)
    cache = cache_of(DB)
    cache.apply(change(WEB, denied=[web.svid.serial]))
    cache.hold([web])
    assert not cache.svids
    assert cache.take_denied() == {WEB.id}


def test_an_entry_whose_next_svid_has_come_has_lost_none() -> None:
    cache = cache_of(WEB)
    old, new = held(WEB), held(WEB)
    cache.hold([old])
    cache.apply(change(denied=[old.svid.serial]))
    cache.hold([new])
    assert cache.svids == {WEB.id: new}
    assert not cache.take_denied()


def test_a_snapshot_without_it_takes_no_denial_back() -> None:
    cache = cache_of(WEB)
    web = held(WEB)
    cache.apply(change(denied=[web.svid.serial]))
    cache.apply(change(WEB, snapshot=True))
    cache.hold([web])
    assert not cache.svids


async def test_a_change_wakes_whom_it_may_concern_and_nobody_else() -> None:
    cache = cache_of(NEEDS_UIDS)
    with cache.subscribe(UID_1000, who=SOMEBODY) as web, cache.subscribe(OTHER, who=SOMEBODY) as db:
        cache.apply(change(WEB))
        assert (await is_woken(web), await is_woken(db)) == (False, False), "there is no SVID yet"
        cache.hold([held(WEB)])
        assert (await is_woken(web), await is_woken(db)) == (True, False)
        cache.apply(change(entry("web", selectors=OTHER)))
        assert (await is_woken(web), await is_woken(db)) == (True, True)
        cache.apply(change(gone=["web"]))
        assert (await is_woken(web), await is_woken(db)) == (False, True)


async def test_an_entry_that_becomes_the_default_comes_first_keeps_its_svid_and_wakes_its_programs() -> None:
    newer = replace(entry("api"), created_at=WEB.created_at + HOUR if WEB.created_at else None)
    cache = cache_of(WEB, newer)
    minted = held(newer)
    cache.hold([minted])
    with cache.subscribe(UID_1000, who=SOMEBODY) as subscription:
        assert cache.view(UID_1000).entries == (WEB, newer)
        marked = replace(newer, default=True, revision=newer.revision + 1)
        cache.apply(change(marked))
        assert await is_woken(subscription)
    view = cache.view(UID_1000)
    assert view.entries == (marked, WEB)
    assert view.svids == {marked.id: replace(minted, entry=marked)}


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "on its way"])
def test_an_svid_that_needs_no_replacement_gets_the_hint_of_now(*, is_held: bool) -> None:
    cache, minted = cache_of(WEB), held(WEB)
    hinted = replace(WEB, hint="main", revision=WEB.revision + 1)
    steps: list[Callable[[], None]] = [lambda: cache.hold([minted]), lambda: cache.apply(change(hinted))]
    for step in steps if is_held else reversed(steps):
        step()
    found = cache.svids[WEB.id]
    assert (found.svid.hint, found.svid.serial, found.entry) == ("main", minted.svid.serial, hinted)


async def test_an_entry_that_needs_a_fact_that_none_needed_wakes_everybody() -> None:
    cache = cache_of(NEEDS_UIDS)
    with cache.subscribe(UID_1000, who=SOMEBODY) as web:
        cache.apply(change(entry("a", selectors=frozenset({Selector("unix", "path:/bin/x")}))))
        assert await is_woken(web)


async def test_changes_that_nobody_waited_for_wake_once() -> None:
    cache = cache_of()
    cache.apply(change(WEB))
    with cache.subscribe(UID_1000, who=SOMEBODY) as web:
        cache.hold([held(WEB)])
        cache.hold([held(WEB)])
        assert (await is_woken(web), await is_woken(web)) == (True, False)


async def test_a_step_without_news_wakes_nobody() -> None:
    cache = cache_of(WEB)
    with cache.subscribe(UID_1000, who=SOMEBODY) as web:
        cache.apply(change(WEB, snapshot=True, bundle=cache.bundle))
        assert not await is_woken(web)


async def test_a_new_bundle_wakes_everybody() -> None:
    cache = cache_of()
    with cache.subscribe(OTHER, who=SOMEBODY) as db:
        cache.apply(change(bundle=Bundle(trust_domain=TD, x509_authorities=(AUTHORITY.certificate,))))
        assert await is_woken(db)


async def test_the_first_snapshot_wakes_everybody() -> None:
    cache = empty()
    with cache.subscribe(OTHER, who=SOMEBODY) as db:
        cache.apply(change(snapshot=True))
        assert await is_woken(db)


async def test_a_step_too_large_to_compare_wakes_everybody() -> None:
    cache = cache_of(NEEDS_UIDS)
    many = [entry(f"e{uid}", selectors=frozenset({Selector("unix", f"uid:{uid}")})) for uid in range(10_001)]
    with cache.subscribe(frozenset({Selector("unix", "uid:99999")}), who=SOMEBODY) as nobody:
        cache.apply(change(*many[:10_000]))
        assert not await is_woken(nobody)
        cache.apply(change(*many, snapshot=True))
        assert not await is_woken(nobody)
        cache.apply(change(snapshot=True))
        assert await is_woken(nobody)


def test_wanted_is_what_matches_a_subscriber() -> None:
    cache = cache_of(WEB, DB)
    with cache.subscribe(UID_1000, who=SOMEBODY), cache.subscribe(UID_1000, who=SOMEBODY):
        assert cache.wanted() == {WEB.id}
    assert cache.wanted() == frozenset()


def at(own: datetime, issuer: datetime | None = None) -> Reading:
    return Reading(own=own, issuer=issuer or own, monotonic=0, silent=timedelta())


async def test_an_expired_svid_is_dropped_and_its_holder_woken() -> None:
    cache = cache_of(WEB)
    cache.hold([held(WEB)])
    end = NOW + HOUR
    assert cache.expire(at(end - timedelta(seconds=1))) == timedelta(seconds=1)
    with cache.subscribe(UID_1000, who=SOMEBODY) as web:
        assert cache.expire(at(end)) > HOUR
        assert await is_woken(web)
    assert not cache.svids
    assert len(cache.entries) == 1


@pytest.mark.parametrize("late", ["own", "issuer"])
async def test_an_svid_that_one_of_the_clocks_finds_valid_stays(late: str) -> None:
    cache, end = cache_of(WEB), NOW + HOUR
    cache.hold([held(WEB)])
    own, issuer = (end + HOUR, end - HOUR / 2) if late == "own" else (end - HOUR / 2, end + HOUR)
    assert cache.expire(at(own, issuer)) == HOUR / 2
    assert cache.svids


async def test_an_svid_taken_out_of_service_wakes_its_holder() -> None:
    cache = cache_of(WEB, DB)
    cache.hold([held(WEB), held(DB)])
    with cache.subscribe(UID_1000, who=SOMEBODY) as web:
        cache.drop([])
        assert not await is_woken(web)
        cache.drop([WEB.id])
        assert await is_woken(web)
    assert set(cache.svids) == {DB.id}


async def test_an_expired_entry_is_dropped_with_its_svid() -> None:
    end = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    brief = entry("web", expires_at=end)
    cache = cache_of(brief)
    cache.hold([held(brief)])
    assert cache.expire(at(NOW)) == end - NOW
    cache.expire(at(NOW, end))  # the issuer's clock counts
    assert not cache.entries
    assert not cache.svids
    assert cache.needed_facts() == frozenset()
