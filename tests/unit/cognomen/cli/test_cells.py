from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.cli.cells import View, cell_of, ids_in, relative, short_ids, text_of, with_relative, with_unit
from issuer.decisions.profile import serials
from svid.encoding import JSON

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
VIEW = View(trust_domain="example.org", now=NOW)
WIDE = View(output="wide", trust_domain="example.org", now=NOW)


SHORT = {"0123456789ab": "01234567"}


def shown(key: str, value: JSON, view: View = VIEW) -> str:
    return " ".join(cell_of(key, value, view, SHORT))


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (timedelta(0), "0s ago"),
        (timedelta(seconds=59, milliseconds=900), "in 59s"),
        (timedelta(minutes=43, seconds=10), "in 43m"),
        (timedelta(minutes=-1), "1m ago"),
        (timedelta(hours=-3, minutes=-59), "3h ago"),
        (timedelta(hours=47), "in 47h"),
        (timedelta(days=-2), "2d ago"),
        (timedelta(days=3650), "in 3650d"),
    ],
)
def test_a_moment_is_told_in_its_largest_unit(away: timedelta, text: str) -> None:
    assert relative(NOW + away, NOW) == text


def test_a_time_is_relative_in_a_table_and_absolute_to_the_second_in_a_wide_one() -> None:
    for written in ("2026-11-30T12:43:00.123456Z", "2026-11-30T12:43:00.123456+00:00"):
        assert shown("not_after", written) == "in 43m"
        assert shown("not_after", written, WIDE) == "2026-11-30T12:43:00Z"
        assert with_relative(written, NOW) == "2026-11-30T12:43:00Z (in 43m)"
    assert shown("at", "2026-11-30T12:43:00Z", View(now=NOW, has_moments=True)) == "2026-11-30T12:43:00Z"


@pytest.mark.parametrize(
    "text", ["2026-13-30T12:43:00Z", "0000-01-01T00:00:00Z", "2026-11-30", "x2026-11-30T12:43:00Z"]
)
def test_a_text_that_only_looks_like_a_time_stays_as_it_is(text: str) -> None:
    assert shown("comment", text) == text
    assert with_relative(text, NOW) == text


def test_spiffe_ids_of_our_own_trust_domain_are_their_paths() -> None:
    assert shown("spiffe_id", "spiffe://example.org/web") == "/web"
    assert shown("subject", "spiffe://example.org/web") == "/web"
    for whole in (
        "spiffe://example.com/web",
        "spiffe://example.org.evil/web",
        "spiffe://example.org",
        "spiffe://example.org/",
    ):
        assert shown("spiffe_id", whole) == whole
    assert shown("spiffe_id", "spiffe://example.org/web", WIDE) == "spiffe://example.org/web"
    assert shown("spiffe_id", "spiffe://example.org/web", View()) == "spiffe://example.org/web"


def test_a_node_that_is_a_parent_or_an_actor_is_its_id() -> None:
    node = "spiffe://example.org/cognomen/node/join_token/0123456789ab"
    assert shown("parent_id", node) == "01234567"
    assert shown("actor", node) == "01234567"
    assert shown("spiffe_id", node) == "/cognomen/node/join_token/0123456789ab"
    assert shown("parent_id", "spiffe://example.org/travel-nodes") == "/travel-nodes"


def test_ids_are_short_only_in_columns_of_ids() -> None:
    assert shown("id", "0123456789ab") == "01234567"
    assert shown("comment", "0123456789ab") == "0123456789ab"
    assert shown("id", "0123456789ab", WIDE) == "0123456789ab"


def test_all_ids_of_a_column_are_as_long_as_those_that_begin_alike_need() -> None:
    assert short_ids("id", ["0123456789ab", "0123456789cd", "f" * 32]) == {
        "0123456789ab": "0123456789a",
        "0123456789cd": "0123456789c",
        "f" * 32: "f" * 11,
    }
    assert short_ids("id", ["aaaa", "aaaabbbbcccc", ""]) == {"aaaa": "aaaa", "aaaabbbbcccc": "aaaabbbb"}


def test_serials_are_longer_than_the_time_that_they_begin_with() -> None:
    (serial, of_the_same_batch) = serials(b"0123456789ABCDEFGHIJ", at=NOW)
    for one in (f"{serial:x}", f"{of_the_same_batch:x}"):
        for key in ("serial", "subject", "what"):
            assert short_ids(key, [one]) == {one: one[:16]}
    assert f"{serial:x}"[:12] == f"{of_the_same_batch:x}"[:12]


def test_the_kind_of_an_authority_does_not_count() -> None:
    assert short_ids("id", ["x509-2f1c7a90b3d45e68", "jwt-2f1c7a90b3d45e68"]) == {
        "x509-2f1c7a90b3d45e68": "x509-2f1c7a90",
        "jwt-2f1c7a90b3d45e68": "jwt-2f1c7a90",
    }


def test_a_subject_that_is_an_id_or_a_node_is_short() -> None:
    entry, authority = "01" * 16, "x509-2f1c7a90b3d45e68"
    node = f"spiffe://example.org/cognomen/node/join_token/{entry}"
    for subject, text in (
        (entry, "01010101"),
        (f"{entry} and 12 more", "01010101 and 12 more"),
        (node, "01010101"),
        (authority, "x509-2f1c7a90"),
        ("spiffe://example.org/web", "/web"),
        ("unix:uid:0", "unix:uid:0"),
        ("what nobody has", "what nobody has"),
        ("7", "7"),
    ):
        for key in ("subject", "what"):
            short = short_ids(key, ids_in(key, subject, VIEW))
            assert " ".join(cell_of(key, subject, VIEW, short)) == text
            assert list(cell_of(key, subject, WIDE, {})) == subject.split(" ")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("x509_svid_ttl", "3600s", "1h"),
        ("jwt_svid_ttl", "5400s", "90m"),
        ("jwt_svid_ttl", "0s", "0s"),
        ("clock_ahead", "-75s", "-75s"),
        ("heard_ago", "819s", "13m"),
        ("oldest_truth", "59s", "59s"),
        ("hint", "3600s", "3600s"),
        ("x509_svid_ttl", None, "-"),
    ],
)
def test_a_duration_has_a_unit_as_options_take_it(key: str, value: JSON, text: str) -> None:
    assert shown(key, value) == text
    assert shown(key, value, WIDE) == text
    assert text_of(with_unit(key, value)) == text


@given(st.sets(st.text(alphabet="01ab-", min_size=1, max_size=12), max_size=12))
def test_a_short_id_begins_one_id_only_or_is_whole(ids: set[str]) -> None:
    for one, short in short_ids("id", ids).items():
        assert one.startswith(short)
        assert short == one or [other for other in ids if other.startswith(short)] == [one]


def test_a_list_is_broken_between_its_items() -> None:
    assert list(cell_of("selectors", ["unix:path:/a b", "unix:uid:1"], VIEW, {})) == ["unix:path:/a b,", "unix:uid:1"]
    assert list(cell_of("selectors", [], VIEW, {})) == ["-"]


@given(st.text())
def test_no_stored_text_controls_the_terminal(text: str) -> None:
    for view in (VIEW, WIDE):
        assert all(
            word.isprintable()
            for key in ("id", "comment", "parent_id", "subject", "heard_ago")
            for word in cell_of(key, text, view, {})
        )
        assert all(word.isprintable() for word in cell_of("selectors", [text], view, {}))
    assert text_of(text).isprintable()


def test_only_the_spiffe_id_of_a_node_becomes_a_short_id_if_the_nodes_are_known() -> None:
    node, like = (f"spiffe://example.org/cognomen/node/{attestor}/0123456789ab" for attestor in ("join_token", "zzz"))
    known = replace(VIEW, nodes=frozenset({node}))
    for key in ("parent_id", "actor", "subject"):
        assert list(ids_in(key, node, known)) == ["0123456789ab"]
        assert list(ids_in(key, like, known)) == []
        assert shown(key, like, known) == "/cognomen/node/zzz/0123456789ab"


def test_no_item_of_a_list_looks_like_two() -> None:
    forged: list[JSON] = ["unix:path:/srv/x, unix:uid:0", '"a', "unix:uid:1000", "a,b"]
    expected = '"unix:path:/srv/x, unix:uid:0", "\\"a", unix:uid:1000, a,b'
    assert shown("selectors", forged) == text_of(forged) == expected
    assert text_of([{"a": "b", "c": "d"}, ["e", "f"]]) == "a=b, c=d, e, f"
