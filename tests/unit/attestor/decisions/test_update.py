"""What a stream says next: the whole state, only when it is news, only what every client can use."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestor.cache import View
from attestor.decisions.clocks import Reading
from attestor.decisions.update import (
    NoMessage,
    Send,
    Trust,
    Update,
    X509Message,
    jwt_bundle_update,
    unique_hints,
    x509_bundle_update,
    x509_update,
)
from certs.ca import make_authority
from cognomen.protocol.selector import Selector
from svid.bundle import Bundle
from svid.crl import CRL
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.crls import Listed, make_crl
from tests.doubles.issuerclient import Authority
from tests.doubles.workloadside import TRUST_DOMAIN, WorkloadSide, entry

EMPTY = Bundle(trust_domain=TRUST_DOMAIN)
SELECTORS = frozenset({Selector("unix", "uid:1")})


@pytest.fixture
def side() -> WorkloadSide:
    side = WorkloadSide(clock=FakeClock())
    side.synchronise()
    return side


def view(side: WorkloadSide) -> View:
    return side.cache.view(SELECTORS)


def decide(
    side: WorkloadSide,
    *,
    last: X509Message | None = None,
    bundle: Bundle | None = None,
    crls: tuple[CRL, ...] = (),
    now: datetime | None = None,
    issuer: datetime | None = None,
) -> Update[X509Message]:
    seen = view(side)
    held = {entry_id: one.svid for entry_id, one in seen.svids.items()}
    own = now or side.clock.now()
    at = Reading(own=own, issuer=issuer or own, monotonic=0, silent=timedelta())
    trust = Trust(bundle=side.bundle if bundle is None else bundle, crls=crls)
    return x509_update(seen.entries, held, trust, last=last, at=at)


def sent(update: Update[X509Message]) -> X509Message:
    assert isinstance(update, Send)
    return update.message


def paths(message: X509Message) -> list[str]:
    return [svid.spiffe_id.path for svid in message.svids]


def test_nobody_whom_no_entry_matches_gets_anything(side: WorkloadSide) -> None:
    assert decide(side) is NoMessage.DENIED
    assert x509_bundle_update((), Trust(bundle=side.bundle), last=None) is NoMessage.DENIED
    assert jwt_bundle_update((), side.bundle, last=None) is NoMessage.DENIED


def test_denial_comes_also_after_messages(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    last = sent(decide(side))
    side.remove("a")
    assert decide(side, last=last) is NoMessage.DENIED


def test_an_entry_without_svid_waits(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"), mint=False)
    assert decide(side) is NoMessage.WAIT


def test_an_entry_without_svid_keeps_no_other_back(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"), mint=False)
    side.put(entry("b", "unix:uid:1"))
    assert paths(sent(decide(side))) == ["/w/b"]


def test_the_same_again_is_not_sent(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    assert decide(side, last=sent(decide(side))) is NoMessage.UNCHANGED


def test_a_bundle_that_changed_only_for_jwts_is_no_news_about_x509(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    changed = replace(side.bundle, jwt_authorities={}, sequence=7)
    assert decide(side, last=sent(decide(side)), bundle=changed) is NoMessage.UNCHANGED


def test_a_new_svid_is_news(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    last = sent(decide(side))
    side.mint(entry("a", "unix:uid:1"))
    assert sent(decide(side, last=last)).svids != last.svids


def test_a_new_authority_is_news(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    last = sent(decide(side))
    side.rotate()
    assert len(sent(decide(side, last=last)).trust.bundle.x509_authorities) == 2


def test_a_hint_that_changed_is_news(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    last = sent(decide(side))
    side.put(entry("a", "unix:uid:1", hint="db", revision=2), mint=False)
    assert [svid.hint for svid in sent(decide(side, last=last)).svids] == ["db"]


def test_no_message_has_an_empty_bundle(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    assert decide(side, bundle=EMPTY) is NoMessage.WAIT
    assert x509_bundle_update(view(side).entries, Trust(bundle=EMPTY), last=None) is NoMessage.WAIT


def test_an_svid_whose_time_is_over_is_left_out(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    assert decide(side, now=side.clock.now() + timedelta(hours=1)) is NoMessage.WAIT
    assert isinstance(decide(side, now=side.clock.now() + timedelta(minutes=59)), Send)
    assert decide(side, now=side.clock.now() - timedelta(minutes=2)) is NoMessage.WAIT  # it is not valid yet
    assert isinstance(decide(side, now=side.clock.now() - timedelta(days=8), issuer=side.clock.now()), Send)


def test_a_message_names_the_entry_of_each_svid_and_of_nothing_else(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1", age=timedelta(hours=3)), entry("c", "unix:uid:1"))
    side.put(entry("b", "unix:uid:1", age=timedelta(hours=2)), mint=False)
    message = sent(decide(side))
    assert [one.id for one in message.entries] == ["a", "c"]
    assert [one.spiffe_id for one in message.entries] == [svid.spiffe_id for svid in message.svids]
    side.mint(entry("b", "unix:uid:1", age=timedelta(hours=2)))
    assert [one.id for one in sent(decide(side)).entries] == ["a", "b", "c"]


def test_an_svid_of_another_trust_domain_is_left_out(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    other = TrustDomain("other.org")
    bundle = Bundle(trust_domain=other, x509_authorities=(Authority(other, side.clock).certificate,))
    assert decide(side, bundle=bundle) is NoMessage.WAIT


def test_x509_bundles_are_news_when_their_authorities_change(side: WorkloadSide) -> None:
    entries = (entry("a", "unix:uid:1"),)
    last = Trust(bundle=side.bundle)
    assert x509_bundle_update(entries, last, last=None) == Send(last)
    changed = Trust(bundle=replace(side.bundle, jwt_authorities={}))
    assert x509_bundle_update(entries, changed, last=last) is NoMessage.UNCHANGED
    side.rotate()
    assert x509_bundle_update(entries, Trust(bundle=side.bundle), last=last) == Send(Trust(bundle=side.bundle))


def test_a_new_revocation_list_is_news_to_whoever_checks_x509_svids(side: WorkloadSide) -> None:
    side.put(entry("a", "unix:uid:1"))
    first, second = (CRL.from_der(make_crl(make_authority("authority-1"), Listed(number=number))) for number in (1, 2))
    last = sent(decide(side, crls=(first,)))
    assert decide(side, crls=(first,), last=last) is NoMessage.UNCHANGED
    assert sent(decide(side, crls=(second,), last=last)).trust.crls == (second,)
    assert x509_bundle_update(view(side).entries, last.trust, last=last.trust) is NoMessage.UNCHANGED
    trust = Trust(bundle=side.bundle, crls=(second,))
    assert x509_bundle_update(view(side).entries, trust, last=last.trust) == Send(trust)


def test_jwt_bundles_are_news_when_their_keys_change(side: WorkloadSide) -> None:
    entries = (entry("a", "unix:uid:1"),)
    last = side.bundle
    assert jwt_bundle_update(entries, last, last=None) == Send(last)
    assert jwt_bundle_update(entries, replace(last, x509_authorities=()), last=last) is NoMessage.UNCHANGED
    side.rotate()
    assert jwt_bundle_update(entries, side.bundle, last=last) == Send(side.bundle)


def test_a_jwt_bundle_without_keys_is_said() -> None:
    assert jwt_bundle_update((entry("a", "unix:uid:1"),), EMPTY, last=None) == Send(EMPTY)


@pytest.mark.clause("WA-19")
@given(hints=st.lists(st.sampled_from(["", "a", "b", "c"])))
def test_no_two_hints_are_alike_and_the_first_keeps_its_own(hints: Collection[str]) -> None:
    found = list(unique_hints([entry(f"{number}", "unix:uid:1", hint=hint) for number, hint in enumerate(hints)]))
    assert len(found) == len(hints)
    kept = [hint for hint in found if hint]
    assert sorted(kept) == sorted(set(hints) - {""})
    assert all(found[list(hints).index(hint)] == hint for hint in kept)
