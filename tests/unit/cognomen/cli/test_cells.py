from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.cli.cells import View, cell_of, relative, short_ids, text_of, with_relative
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


def test_ids_that_begin_alike_are_shown_as_far_as_they_differ() -> None:
    assert short_ids("id", ["0123456789ab", "0123456789cd", "f" * 32]) == {
        "0123456789ab": "0123456789a",
        "0123456789cd": "0123456789c",
        "f" * 32: "f" * 8,
    }
    assert short_ids("id", ["aaaa", "aaaabbbbcccc", ""]) == {"aaaa": "aaaa", "aaaabbbbcccc": "aaaabbbb"}


def test_serials_are_long_enough_to_tell_moments_apart() -> None:
    assert short_ids("serial", ["81a21c36058f7f927323df0b8e9fb56d"]) == {
        "81a21c36058f7f927323df0b8e9fb56d": "81a21c36058f"
    }


def test_the_kind_of_an_authority_does_not_count() -> None:
    assert short_ids("id", ["x509-2f1c7a90b3d45e68", "jwt-2f1c7a90b3d45e68"]) == {
        "x509-2f1c7a90b3d45e68": "x509-2f1c7a90",
        "jwt-2f1c7a90b3d45e68": "jwt-2f1c7a90",
    }


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
            word.isprintable() for key in ("id", "comment", "parent_id") for word in cell_of(key, text, view, {})
        )
        assert all(word.isprintable() for word in cell_of("selectors", [text], view, {}))
    assert text_of(text).isprintable()
