"""cognomen/rulebook/spire: what SPIRE prints, and every fault of it in one run."""

from datetime import timedelta

import pytest

from cognomen.rulebook.faults import MOST_FAULTS, counted_faults
from cognomen.rulebook.given import Extra
from cognomen.rulebook.spire import read_spire
from tests.unit.cognomen.rulebook.spireentries import entry, printed

CRM, AGENT = "/agent/concierge/crm", "/spire/agent/join_token/7f3a"


def faults(document: object) -> list[str]:
    entries, found = read_spire(document, "e.json")
    assert found
    return [str(one) for one in found] + [f"and read {len(entries)}" for _ in entries]


def test_an_entry_is_read_with_what_it_has() -> None:
    one = entry(
        CRM, AGENT, "unix:uid:1", "unix:path:/a:b", x509_svid_ttl="60", jwt_svid_ttl=90, dns_names=["b", "a"], hint="h"
    )
    (found,), none = read_spire(printed(one), "e.json")
    assert none == []
    assert (found.where, found.spiffe_id.path, found.parent_id.path) == ("e.json: entries[0]", CRM, AGENT)
    assert sorted(map(str, found.selectors)) == ["unix:path:/a:b", "unix:uid:1"]
    assert (found.x509_ttl, found.jwt_ttl, found.dns_names) == (
        timedelta(seconds=60),
        timedelta(seconds=90),
        ("b", "a"),
    )
    assert found.extras == {Extra.HINT}
    assert found.is_spire


def test_an_array_of_entries_is_read_too_and_null_is_nothing() -> None:
    (found,), none = read_spire([entry(CRM, AGENT, "unix:uid:1", hint=None, dns_names=None)], "e.json")
    assert (none, found.extras, found.dns_names) == ([], frozenset(), ())


def test_every_fault_is_told_in_one_run() -> None:
    told = faults(
        printed(
            entry(CRM, AGENT, "unix:uid:1", ttl=5, admin="yes", x509_svid_ttl=-1),
            entry("/a//b", "agent", "unix:uid:1"),
            entry(CRM, AGENT, "unix:uid:1"),
            entry(CRM, AGENT)
            | {"selectors": [{"type": "unix", "value": ""}, {"value": "x"}, {"type": "a:b", "value": "c"}]},
        )
    )
    assert (
        told
        == [
            "e.json: entries[0].ttl: unknown key",
            "e.json: entries[0].admin: expected true or false, found 'yes'",
            "e.json: entries[1].spiffe_id: path: empty segment, or ends with '/'",
            "e.json: entries[1].parent_id: trust domain: expected a-z 0-9 . - _, found 'example.orgagent'",
            "e.json: entries[3].selectors[0]: expected type:value, found 'unix:'",
            "e.json: entries[3].selectors[1]: expected an object of type and value, found one of 'value'",
            "e.json: entries[3].selectors[2]: expected a type without a colon, found 'a:b'",
            "and read 1",
        ]
        or told
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"spiffe_id": "spiffe://example.org/a"},
            "spiffe_id: expected an object of trust_domain and path, as SPIRE prints",
        ),
        ({"spiffe_id": {"path": "/a"}}, "spiffe_id: expected an object of trust_domain and path, found one of 'path'"),
        (
            {"spiffe_id": {"trust_domain": "example.org", "path": 5}},
            "spiffe_id: expected a table of texts, found a table",
        ),
        ({"x509_svid_ttl": -1}, "x509_svid_ttl: expected a number of seconds from 0 to 2147483648, found -1"),
        ({"x509_svid_ttl": "1h"}, "x509_svid_ttl: expected a number of seconds from 0 to 2147483648, found '1h'"),
        ({"x509_svid_ttl": "٣"}, "x509_svid_ttl: expected a number of seconds"),
        ({"x509_svid_ttl": 1.5}, "x509_svid_ttl: expected a number, found 1.5"),
        (
            {"x509_svid_ttl": 10**400},
            "x509_svid_ttl: expected a number of seconds from 0 to 2147483648, found a very large",
        ),
        ({"expires_at": 253_402_300_800}, "expires_at: expected a number of seconds from 0 to 253402300799"),
        ({"selectors": []}, "selectors: expected at least one selector, found none"),
        ({"selectors": "unix:uid:1"}, "selectors: expected a list of tables of texts, found 'unix:uid:1'"),
        ({"selectors": [{"type": "a", "value": "b\x1b"}]}, r"selectors[0]: expected printable characters"),
        ({"dns_names": [5]}, "dns_names: expected a list of texts, found a list"),
    ],
)
def test_a_value_of_another_form_is_a_fault(more: dict[str, object], words: str) -> None:
    (told,) = faults(printed(entry(CRM, AGENT, "unix:uid:1", **more)))
    assert told.startswith(f"e.json: entries[0].{words}")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "entries: expected a list of entries, found nothing"),
        ({"entries": {}}, "entries: expected a list of entries, found a table"),
        ("entries", "entries: expected a list of entries, found 'entries'"),
        ({"entries": [7]}, "entries[0]: expected a table, found 7"),
        ({"entries": [], "next_page_token": "x"}, "next_page_token: expected all entries, found one page of them"),
        ({"entries": [0] * 100_001}, "entries: expected at most 100000 entries, found 100001"),
    ],
)
def test_what_spire_does_not_print_is_a_fault(document: object, words: str) -> None:
    assert faults(document)[0].startswith(f"e.json: {words}")


def test_of_very_many_faults_the_first_are_kept_and_the_others_counted() -> None:
    document = printed(*(entry(CRM, AGENT, "unix:uid:1", hintt="x") for _ in range(20_000)))
    _, found = read_spire(document, "e.json")
    assert (len(found), counted_faults(found)) == (MOST_FAULTS, 20_000)
