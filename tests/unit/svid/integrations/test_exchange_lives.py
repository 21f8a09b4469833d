"""svid/integrations/exchange: how long credentials of AWS are kept, whatever an answer says of their end and of the time."""

import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest

from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import aws_sts_profile
from tests.doubles.clock import FakeClock
from tests.doubles.freshtokens import FreshTokensDouble
from tests.doubles.provider import ProviderDouble, Scripted

HOUR = timedelta(hours=1)
FAR = ["Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 GMT"]


@pytest.fixture
def now(clock: FakeClock) -> datetime:
    clock.jump(-timedelta(microseconds=clock.now().microsecond))  # a Date has none
    return clock.now()


@pytest.fixture
def life(
    bank: ProviderDouble, tokens: FreshTokensDouble, clock: FakeClock, context: ssl.SSLContext, now: datetime
) -> Callable[[datetime, str, timedelta | None], timedelta]:
    """How long credentials are kept that end then, by an answer with this Date; and how long ones were asked for."""

    def kept(end: datetime, date: str, asked: timedelta | None) -> timedelta:
        credentials = {"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": end.isoformat()}
        result = {"AssumeRoleWithWebIdentityResult": {"Credentials": credentials}}
        bank.script = [Scripted(status=200, headers={"Date": date}, body={"AssumeRoleWithWebIdentityResponse": result})]
        profile = aws_sts_profile("arn:aws:iam::1:role/r", "s", url=bank.url, duration=asked)
        expires_at = TokenExchange(profile, tokens, context=context, clock=clock).token().expires_at
        assert expires_at is not None
        return expires_at - now

    return kept


Kept = Callable[[datetime, str, timedelta | None], timedelta]


@pytest.mark.parametrize("date", FAR)
def test_a_date_that_is_far_from_our_clock_is_ignored(date: str, life: Kept, now: datetime) -> None:
    assert life(now + HOUR, date, None) == HOUR


@pytest.mark.parametrize("ahead", [-5 * HOUR, 23 * HOUR])
def test_the_providers_clock_counts_where_it_may_be_one(ahead: timedelta, life: Kept, now: datetime) -> None:
    assert life(now + ahead + HOUR, format_datetime(now + ahead), None) == HOUR


@pytest.mark.parametrize(("asked", "longest"), [(HOUR / 4, HOUR / 4), (None, 12 * HOUR)])
def test_credentials_are_kept_no_longer_than_was_asked_for(
    asked: timedelta | None, longest: timedelta, life: Kept, now: datetime
) -> None:
    for end in (now + 20 * HOUR, now.replace(year=2099)):
        assert life(end, format_datetime(now), asked) == longest
    assert life(now + HOUR / 5, format_datetime(now), asked) == HOUR / 5
