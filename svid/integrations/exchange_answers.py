"""What providers answer to an exchange: how to read a token, a refusal, and what of a text may be shown.

Decided here: the forms of answers, and that nothing shown contains a part of a token. What answers mean: svid/integrations/exchange and
svid/integrations/exchange_refusals.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from string import ascii_lowercase, ascii_uppercase
from types import MappingProxyType
from xml.etree import ElementTree as ET

from svid.encoding import JSON, json_object

__all__ = ["LONGEST_LIFE", "Answer", "read_aws", "read_oauth", "read_vault", "refusal", "shown"]

_MOST_SHOWN = 256
_MOST_SEARCHED = 4096
_PIECE = 8  # so many characters of a secret in a row are a part of it
_HIDDEN = "[removed]"
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]+)*")
_RUN = re.compile(r"[A-Za-z0-9_-]{32,}")
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_TOKEN = re.compile(r"[!-~]+")
LONGEST_LIFE = timedelta(days=3660)
_MARKUP = (b"<!DOCTYPE", b"<!ENTITY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A provider's token.

    Attributes:
        value: the token; visible ASCII characters.
        life: how long it lives from now on; None if the answer does not say.
        ends_at: the moment of its end by the provider's clock, where an answer gives that instead of `life`.
        fields: what else came with it, by the provider's names; printable texts only.
    """

    value: str = field(repr=False)
    life: timedelta | None = None
    ends_at: datetime | None = None
    fields: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)


def read_oauth(document: bytes) -> Answer:
    """Read the answer of a token endpoint.

    Shape: a JSON object with `access_token`, `expires_in` in seconds, `token_type` Bearer or N_A; other printable texts become `fields`.

    Raises:
        ValueError: it is not one.

    Source: RFC 6749 5.1, RFC 8693 2.2.1
    """
    members = _json(document)
    kind = members.get("token_type")
    if kind is not None and (not isinstance(kind, str) or kind.lower() not in {"bearer", "n_a"}):
        raise ValueError("token_type: expected Bearer, found another one")
    value = _token(members, "access_token")
    return Answer(value=value, life=_life(members, "expires_in"), fields=_texts(members, but="access_token"))


def read_vault(document: bytes) -> Answer:
    """Read the answer of a login at Vault or OpenBao.

    Shape: a JSON object with `auth`, in it `client_token` and `lease_duration` in seconds; 0: the token has no end.

    Raises:
        ValueError: it is not one.
    """
    auth = _within(_json(document), "auth")
    life = None if auth.get("lease_duration") == 0 else _life(auth, "lease_duration")
    return Answer(value=_token(auth, "client_token"), life=life, fields=_texts(auth, but="client_token"))


_AWS = ("AccessKeyId", "SecretAccessKey", "SessionToken")


def read_aws(document: bytes) -> Answer:
    """Read the answer of AssumeRoleWithWebIdentity; `fields` has AccessKeyId, SecretAccessKey and SessionToken, which is also the value.

    Shape: the XML of the query protocol, or the same as JSON; `Expiration` as ISO 8601 or as seconds since 1970.

    Raises:
        ValueError: it is not one.
    """
    credentials = _aws_credentials(document)
    fields = MappingProxyType({name: _token(credentials, name) for name in _AWS})
    return Answer(value=fields["SessionToken"], ends_at=_moment(credentials.get("Expiration")), fields=fields)


def _aws_credentials(document: bytes) -> Mapping[str, JSON]:
    if not document.lstrip().startswith(b"<"):
        result = _within(_json(document), "AssumeRoleWithWebIdentityResponse")
        return _within(_within(result, "AssumeRoleWithWebIdentityResult"), "Credentials")
    root = _xml(document)
    found = None if root is None else root.find("{*}AssumeRoleWithWebIdentityResult/{*}Credentials")
    if found is None:
        raise ValueError("expected XML with Credentials")
    return {one.tag.rpartition("}")[2]: one.text or "" for one in found}


def refusal(document: bytes) -> tuple[str, str]:
    """Find the name and the description of an error in a provider's answer; empty texts where there are none.

    Shape: `error` and `error_description` (RFC 6749 5.2); `error` or `Error` as an object with a type or code and a message; a list
    `errors` (Vault); the XML of AWS.
    """
    if document.lstrip().startswith(b"<"):
        root = _xml(document)
        error = None if root is None else root.find("{*}Error")
        return ("", "") if error is None else (error.findtext("{*}Code", ""), error.findtext("{*}Message", ""))
    members = _parsed(document) or {}
    if isinstance(listed := members.get("errors"), list):
        return "", "; ".join(one for one in listed if isinstance(one, str))
    inner = members.get("error", members.get("Error"))
    if isinstance(inner, Mapping):
        return _first(inner, "type", "status", "code", "Code"), _first(inner, "message", "Message")
    return _first(members, "error"), _first(members, "error_description", "message")


def shown(text: str, secrets: Collection[str] = ()) -> str:
    """At most 256 printable characters of a text from outside, without what may be a part of a token.

    Args:
        secrets: no 8 characters in a row of one of these are left, in upper or lower case.
    """
    text = text[:_MOST_SEARCHED]
    searched, secrets = text.translate(_LOWER), [secret.translate(_LOWER) for secret in secrets]
    hidden = {
        place
        for start in range(len(text) - _PIECE + 1)
        if any(searched[start : start + _PIECE] in secret for secret in secrets)
        for place in range(start, start + _PIECE)
    }
    marked = "".join("\0" if place in hidden else one for place, one in enumerate(text))
    marked = _RUN.sub(lambda found: _HIDDEN if _is_random(found[0]) else found[0], _JWT.sub(_HIDDEN, marked))
    clean = "".join(one if one.isprintable() else " " for one in re.sub("\0+", _HIDDEN, marked))
    return clean if len(clean) <= _MOST_SHOWN else f"{clean[: _MOST_SHOWN - 1]}…"


def _is_random(run: str) -> bool:
    """Whether a long run of characters may be a token: a UUID or a word has no upper and lower case and digits."""
    return any(map(str.isdigit, run)) and any(map(str.isupper, run)) and any(map(str.islower, run))


def _parsed(document: bytes) -> dict[str, JSON] | None:
    """An error of the parser would hold the whole document."""
    try:
        return json_object(document)
    except ValueError:
        return None


def _json(document: bytes) -> Mapping[str, JSON]:
    if (members := _parsed(document)) is None:
        raise ValueError("expected a JSON object")
    return members


def _xml(document: bytes) -> ET.Element | None:
    if any(one in document.upper() for one in _MARKUP) or b"\0" in document:
        return None
    try:
        return ET.fromstring(document)  # noqa: S314 - at most 64 KiB, without entities
    except (ET.ParseError, ValueError, LookupError, Warning):  # some codecs warn, which a program may make an error
        return None


def _within(members: Mapping[str, JSON], name: str) -> Mapping[str, JSON]:
    inner = members.get(name)
    if not isinstance(inner, Mapping):
        raise ValueError(f"{name}: expected an object")  # noqa: TRY004 - callers handle only one error
    return inner


def _token(members: Mapping[str, JSON], name: str) -> str:
    """A token goes into a header, so that it must not contain spaces or line ends."""
    value = members.get(name)
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError(f"{name}: expected a token of visible ASCII characters")
    return value


def _life(members: Mapping[str, JSON], name: str) -> timedelta | None:
    """Read seconds; some providers write them as a text."""
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{name}: expected a positive number of seconds")
    return timedelta(seconds=min(float(value), LONGEST_LIFE.total_seconds()))


def _moment(value: JSON) -> datetime:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise ValueError("Expiration: expected a moment")


def _texts(members: Mapping[str, JSON], *, but: str) -> Mapping[str, str]:
    """What is printable: such texts may end up in a header or a log."""
    return MappingProxyType(
        {
            name: one
            for name, one in members.items()
            if isinstance(one, str) and name != but and name.isprintable() and one.isprintable()
        }
    )


def _first(members: Mapping[str, JSON], *names: str) -> str:
    return next((text for name in names if isinstance(text := members.get(name), str)), "")
