from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import MAX_CALLERS, MAX_CALLERS_BYTES, MAX_TTL, EntryError, EntryID, RegistrationEntry
from cognomen.protocol.selector import Selector
from svid.spiffeid import SpiffeID, TrustDomain

ENTRY = RegistrationEntry(
    spiffe_id=SpiffeID.parse("spiffe://example.org/agent/concierge/reasoning"),
    parent_id=SpiffeID.parse("spiffe://example.org/cognomen/node/join_token/1"),
    selectors=frozenset({Selector("unix", "uid:1000")}),
)


@dataclass(frozen=True, kw_only=True)
class Wrong:
    field: str
    value: object
    message: str


def ids(count: int, length: int = 0) -> tuple[SpiffeID, ...]:
    domain = TrustDomain("example.org")
    return tuple(SpiffeID(trust_domain=domain, path=f"/{number:06}{'x' * length}") for number in range(count))


DAY = MAX_TTL // timedelta(seconds=1)
WRONG = [
    Wrong(field="id", value="a/b", message="expected at most 255 characters a-z A-Z 0-9 . - _, found 'a/b'"),
    Wrong(field="id", value="a\n", message="expected at most 255 characters"),
    Wrong(field="id", value="a" * 256, message="expected at most 255 characters"),
    Wrong(field="selectors", value=frozenset(), message="expected 1 to 100, found 0"),
    Wrong(
        field="selectors",
        value=frozenset(Selector("unix", f"uid:{number}") for number in range(101)),
        message="expected 1 to 100, found 101",
    ),
    Wrong(field="revision", value=-1, message="expected 0 or more, found -1"),
    Wrong(field="admin", value=True, message="expected false, found true; this is not supported yet"),
    Wrong(field="downstream", value=True, message="expected false, found true"),
    Wrong(field="store_svid", value=True, message="expected false, found true"),
    Wrong(
        field="federates_with",
        value=(TrustDomain("example.com"),),
        message="expected none, found example.com; federation is not supported yet",
    ),
    Wrong(field="x509_svid_ttl", value=timedelta(), message=f"expected 1 to {DAY} seconds, found 0"),
    Wrong(field="x509_svid_ttl", value=timedelta(seconds=-1), message=f"expected 1 to {DAY} seconds, found -1"),
    Wrong(field="x509_svid_ttl", value=MAX_TTL + timedelta(seconds=1), message=f"seconds, found {DAY + 1}"),
    Wrong(field="jwt_svid_ttl", value=timedelta(milliseconds=1500), message="expected whole seconds, found 1.5"),
    Wrong(
        field="expires_at",
        value=datetime(2026, 1, 1),  # noqa: DTZ001 - without a zone is the test
        message="expected a time with a time zone, found 2026-01-01T00:00:00",
    ),
    Wrong(
        field="created_at",
        value=datetime(2026, 1, 1),  # noqa: DTZ001 - without a zone is the test
        message="expected a time with a time zone",
    ),
    Wrong(field="dns_names", value=("a",) * 2, message="duplicate name"),
    Wrong(field="dns_names", value=("a.example.org", "A.example.org"), message="duplicate name"),
    Wrong(field="dns_names", value=tuple(f"a{n}" for n in range(65)), message="expected at most 64, found 65"),
    Wrong(field="hint", value="é" * 513, message="expected at most 1024 bytes, found 1026"),
    Wrong(field="hint", value="a\nb", message="expected printable characters, found 'a\\nb'"),
    Wrong(field="owner", value="a" * 257, message="expected at most 256 bytes, found 257"),
    Wrong(field="owner", value="\ud800", message="expected printable characters"),
    Wrong(field="labels", value={"": "a"}, message="empty name"),
    Wrong(field="labels", value={"a": "\0"}, message="expected printable characters, found '\\x00'"),
    Wrong(field="labels", value={"a" * 257: ""}, message="expected at most 256 bytes, found 257"),
    Wrong(field="callers", value=ids(MAX_CALLERS + 1), message="expected at most 1024, found 1025"),
    Wrong(field="callers", value=ids(2)[::-1], message="expected each once, in order"),
    Wrong(field="callers", value=ids(1) * 2, message="expected each once, in order"),
    Wrong(
        field="callers",
        value=ids(MAX_CALLERS, 256),
        message=f"expected at most {MAX_CALLERS_BYTES} bytes together, found 289792",
    ),
    Wrong(field="labels", value={str(n): "" for n in range(65)}, message="expected at most 64, found 65"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.field}-{wrong.message[:20]}")
def test_a_field_that_no_entry_can_have_is_refused_by_its_name(wrong: Wrong) -> None:
    with pytest.raises(EntryError) as e:
        replace(ENTRY, **{wrong.field: wrong.value})  # type: ignore[arg-type]  # fields of many types
    assert str(e.value).startswith(f"{wrong.field}: ")
    assert wrong.message in str(e.value)


@pytest.mark.clause("WA-44")
def test_a_hint_has_at_most_1024_bytes() -> None:
    assert len(replace(ENTRY, hint="a" * 1024).hint) == 1024
    with pytest.raises(EntryError, match="hint: expected at most 1024 bytes, found 1025"):
        replace(ENTRY, hint="a" * 1025)


def test_an_entry_can_have_every_field_at_its_limit() -> None:
    replace(
        ENTRY,
        id=EntryID("a" * 255),
        selectors=frozenset(Selector("unix", f"uid:{number}") for number in range(100)),
        x509_svid_ttl=timedelta(seconds=1),
        jwt_svid_ttl=MAX_TTL,
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
        dns_names=tuple(f"a{number}.example.org" for number in range(64)),
        hint="é" * 512,
        owner="a" * 256,
        labels={str(number): "a" * 256 for number in range(64)},
        callers=ids(MAX_CALLERS, MAX_CALLERS_BYTES // MAX_CALLERS - len(str(ids(1)[0]))),
    )


def test_the_labels_of_an_entry_are_read_only() -> None:
    labels = {"team": "travel"}
    entry = replace(ENTRY, labels=labels)
    labels["team"] = "other"
    assert entry.labels == {"team": "travel"}
    with pytest.raises(TypeError):
        entry.labels["team"] = "other"  # type: ignore[index]  # that it cannot be is the test
    assert replace(entry, hint="x").labels == {"team": "travel"}


@pytest.mark.parametrize(
    "name", ["a", "example.org", "a-b.c", "xn--bcher-kva.example", "1.example.org", "a" * 63, "A.B"]
)
def test_a_host_name_is_accepted(name: str) -> None:
    assert replace(ENTRY, dns_names=(name,)).dns_names == (name,)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "*",
        "*.example.org",
        "example.org.",
        ".example.org",
        "a..b",
        "-a",
        "a-",
        "a_b",
        "a b",
        "a\n",
        "é.example",
        "a" * 64,
        "a." * 127 + "a",
        "127.0.0.1",
        "::1",
        "https://a",
    ],
)
def test_what_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(EntryError, match="dns_names: expected a host name without a wildcard"):
        replace(ENTRY, dns_names=(name,))


@pytest.mark.parametrize("byte", set(range(256)) - {ord(".")})
def test_a_host_name_holds_only_letters_digits_and_hyphens(byte: int) -> None:
    name = f"a{chr(byte)}b"
    if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) == "-"):
        assert replace(ENTRY, dns_names=(name,)).dns_names == (name,)
    else:
        with pytest.raises(EntryError):
            replace(ENTRY, dns_names=(name,))


@given(st.timedeltas())
def test_a_lifetime_is_whole_seconds_up_to_a_day(ttl: timedelta) -> None:
    fits = timedelta(seconds=1) <= ttl <= timedelta(days=1) and ttl.microseconds == 0
    if fits:
        assert replace(ENTRY, x509_svid_ttl=ttl).x509_svid_ttl == ttl
    else:
        with pytest.raises(EntryError, match="x509_svid_ttl: expected"):
            replace(ENTRY, x509_svid_ttl=ttl)
