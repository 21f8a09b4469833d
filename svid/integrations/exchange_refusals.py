"""What it means that a provider gave no token: what to look at, when to try again, and whose clock is wrong.

Decided here: the error. What is done about it: svid/integrations/exchange.
"""

import re
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from svid.errors import ExchangeError
from svid.integrations.exchange_answers import refusal, shown
from svid.integrations.exchange_post import Reply
from svid.integrations.exchange_profiles import Profile
from svid.jwtsvid import JWTSVID

__all__ = ["REFUSED", "apart", "date_of", "failure"]

_REST_SECONDS, _LONGEST_REST_SECONDS = 1.0, 600.0
_SKEW = timedelta(seconds=30)
_AHEAD = timedelta(seconds=5)
_ABOUT_TIME = re.compile(r"expir|not yet|not before|in the future|too old|\b(nbf|iat|exp|clock|skew|lifetime)\b")
REFUSED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""With one of these a provider refuses a JWT-SVID, whatever the time."""
_WAIT = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_REDIRECTS = range(300, 400)


def failure(profile: Profile, svid: JWTSVID, reply: Reply, *, now: datetime) -> ExchangeError:
    """Make an error of an answer with a status that is no success."""
    status = reply.status
    if status in _REDIRECTS:
        where = _place(reply.headers.get("Location", ""), svid)
        redirected = f"{profile.name}: answered {status}, a redirect to {where}, which is not followed"
        return ExchangeError(redirected, status=status, hint="give the URL where the exchange really is")
    code, description = (shown(text, (svid.token,)) for text in refusal(reply.body))
    words = f"{profile.name}: answered {' '.join(filter(None, (str(status), code)))}"
    if description:
        words = f"{words}: {description}"
    elif not code:
        words = f"{words}, {shown(reply.headers.get_content_type(), (svid.token,))} without an error of OAuth"
    if status in _WAIT:
        until = now + timedelta(seconds=_rest_seconds(reply.headers, now))
        rests = f"no new attempt before {until.isoformat(timespec='seconds')}"
        return ExchangeError(words, status=status, code=code, is_temporary=True, retry_at=until, hint=rests)
    if status not in REFUSED:
        is_temporary = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT
        return ExchangeError(words, status=status, code=code, is_temporary=is_temporary)
    hint = f"look at {profile.rule}; the JWT-SVID has {_claims(svid)}"
    if ahead := _issuer_ahead(svid, now):
        hint = f"{hint}; {ahead}"
    elif clocks := apart(reply.headers, f"{code} {description}", now=now):
        hint = f"{hint}; {clocks}"
    return ExchangeError(words, status=status, code=code, hint=hint)


def apart(headers: Message, words: str, *, now: datetime) -> str:
    """By how much our clock and the provider's differ, where that may be the reason; otherwise empty.

    Args:
        words: what the provider says about the reason.
    """
    theirs = date_of(headers)
    is_about_time = _ABOUT_TIME.search(words.lower()) is not None
    if theirs is None:
        return "its answer does not say what time it is there" if is_about_time else ""
    ahead = now - theirs
    if not is_about_time and abs(ahead) < _SKEW:
        return ""
    seconds = round(abs(ahead).total_seconds())
    return f"our clock is {seconds} s {'ahead of' if ahead > timedelta() else 'behind'} the provider's"


def _issuer_ahead(svid: JWTSVID, now: datetime) -> str:
    """By how much the issuer's clock, which wrote `iat`, is at least ahead of ours; empty: it is not."""
    if svid.issued_at is None or svid.issued_at - now < _AHEAD:
        return ""
    return f"its iat is {round((svid.issued_at - now).total_seconds())} s in the future by our clock: the issuer's clock is ahead"


def date_of(headers: Message, name: str = "Date") -> datetime | None:
    """Read the provider's clock, or another header with a moment; None if it is missing or unreadable."""
    try:
        moment = parsedate_to_datetime(headers.get(name, ""))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _rest_seconds(headers: Message, now: datetime) -> float:
    """How long to wait by Retry-After, within bounds.

    Source: RFC 9110 10.2.3
    """
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        seconds = float(text)
    elif (moment := date_of(headers, "Retry-After")) is not None:
        seconds = (moment - (date_of(headers) or now)).total_seconds()
    else:
        seconds = _REST_SECONDS
    return min(max(seconds, _REST_SECONDS), _LONGEST_REST_SECONDS)


def _claims(svid: JWTSVID) -> str:
    """What a rule may look at; it is no secret."""
    issuer = svid.claims.get("iss")
    named = shown(issuer) if isinstance(issuer, str) else "none"
    return f"iss {named}, sub {svid.spiffe_id}, aud {' '.join(svid.audiences)}"


def _place(location: str, svid: JWTSVID) -> str:
    """Where a redirect leads, without its query: that may repeat what was sent."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "nowhere"
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path
    return shown(place, (svid.token,)) or "nowhere"
