"""Which selectors can match."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import is_of_ours, never_match_together, never_matches


@pytest.mark.parametrize(
    "text",
    [
        "unix:uid:0",
        "unix:uid:2147483648",
        "unix:gid:4294967294",
        "unix:supplementary_gid:4",
        "unix:user:web",
        "unix:user:1001",
        "unix:user:CORP\\ann.o'neil@example.org",
        "unix:supplementary_group:domain users",
        "unix:path:/bin/a:b",
        "unix:path:/opt/..a/.b/c (deleted)",
        "unix:sha256:" + "0f" * 32,
        "join_token:label:team:travel",
        "join_token:label:a/b.c_d-e:x:y",
        "k8s:ns:web",
        "docker:uid:root",
        "hardware:uid",
    ],
)
def test_what_an_attestor_may_write_can_match(text: str) -> None:
    assert never_matches(Selector.parse(text)) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (f"unix:{key}:{number}", "a number from 0 to 4294967294 without leading zeros")
            for key in ("uid", "gid", "supplementary_gid")
            for number in ("4294967295", "4294967296", "99999999999", "-1", "+1", "007", "00", "root", "", "1 ", "٣")
        ),
        ("unix:uid:" + "9" * 4000, "a number from 0"),
        *(
            (f"unix:{key}:{name}", "a name without a colon")
            for key in ("user", "group", "supplementary_group")
            for name in ("", "no:such", ":", "web:")
        ),
        *(
            (f"unix:path:{path}", "an absolute path without empty, . or .. segments")
            for path in ("", "/", "bin/sh", "./sh", "/usr/bin/../bin/sh", "/usr/./bin", "//bin/sh", "/bin//sh", "/bin/", "/..")
        ),
        *((f"unix:sha256:{digest}", "64 digits 0-9 a-f") for digest in ("", "ab" * 31, "ab" * 33, "AB" * 32, "zz" * 32)),
        ("unix:uid", "a number from 0"),
        ("unix:uids:1", "unix:FACT:VALUE with one of the facts uid, gid, "),
        ("unix::uid:1", "unix:FACT:VALUE"),
        ("uid:1001", "type:value, such as unix:uid:…"),
        ("path:/bin/sh", "type:value, such as unix:path:…"),
        ("join_token:team:travel", "join_token:label:KEY:VALUE"),
        ("join_token:label:team", "join_token:label:KEY:VALUE"),
        ("join_token:label:team:", "join_token:label:KEY:VALUE"),
        ("join_token:label:a b:c", "join_token:label:KEY:VALUE"),
    ],
)  # fmt: skip
def test_what_no_attestor_writes_never_matches(text: str, expected: str) -> None:
    assert never_matches(Selector.parse(text)).startswith(expected)


@given(st.integers(-(2**33), 2**33))
def test_a_number_can_match_if_it_is_one_of_a_user(number: int) -> None:
    assert (never_matches(Selector("unix", f"uid:{number}")) == "") == (0 <= number <= 2**32 - 2)


def test_only_unix_is_written_by_an_attestor_of_ours() -> None:
    assert is_of_ours(Selector("unix", "uid:1"))
    assert not is_of_ours(Selector("k8s", "ns:web"))


@pytest.mark.parametrize(
    ("texts", "fact"),
    [
        (["unix:uid:1", "unix:uid:2"], "unix:uid"),
        (["unix:uid:1", "unix:gid:1", "unix:gid:2"], "unix:gid"),
        (["unix:user:a", "unix:user:b"], "unix:user"),
        (["unix:group:a", "unix:group:b"], "unix:group"),
        (["unix:path:/a", "unix:path:/b"], "unix:path"),
        ([f"unix:sha256:{'0' * 64}", f"unix:sha256:{'1' * 64}"], "unix:sha256"),
        (["join_token:label:team:a", "join_token:label:team:b"], "join_token:label:team"),
    ],
)
def test_two_values_of_a_fact_with_one_value_never_match_together(texts: list[str], fact: str) -> None:
    found = f"found {texts[-2]!r} and {texts[-1]!r}"
    expected = f"at most one {fact}, because all selectors of an entry must match, {found}"
    assert never_match_together(map(Selector.parse, reversed(texts))) == expected


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["unix:uid:1", "unix:uid:1", "unix:gid:2", "unix:user:a", "unix:group:b", "unix:path:/bin/a"],
        ["unix:supplementary_gid:1", "unix:supplementary_gid:2", "unix:gid:3"],
        ["unix:supplementary_group:a", "unix:supplementary_group:b"],
        ["join_token:label:team:a", "join_token:label:site:b"],
        ["k8s:ns:a", "k8s:ns:b", "docker:uid:1", "docker:uid:2"],
    ],
)
def test_what_a_program_or_a_node_may_have_together_can_match(texts: list[str]) -> None:
    assert never_match_together(map(Selector.parse, texts)) == ""


def test_what_never_matches_together_is_told_at_limited_length() -> None:
    assert len(never_match_together([Selector("unix", f"path:/{letter * 4000}") for letter in "ab"])) < 800
