from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from cognomen.daemon.config import load, read_table
from cognomen.protocol.errors import Kind, Refused
from issuer.config import IssuerConfig
from svid.spiffeid import SpiffeID, TrustDomain


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    connections: int = 256
    wait: timedelta = timedelta(seconds=5)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    trust_domain: TrustDomain
    parent: SpiffeID | None = None
    state_dir: Path = Path("/var/lib/cognomen")
    x509_svid_ttl: timedelta = timedelta(hours=1)
    jwt_svid_ttl: timedelta | None = None
    colour: Colour = Colour.RED
    limits: Limits = Limits()
    tables: Mapping[str, Mapping[str, timedelta]] = msgspec.field(default_factory=dict)
    names: list[str] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.x509_svid_ttl > timedelta(days=1):
            raise ValueError(f"x509_svid_ttl: expected at most 1 day, found {self.x509_svid_ttl}")


def read(tmp_path: Path, text: str, **overrides: object) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(path, Config, {"trust_domain": "example.org", **overrides})


def refusal(tmp_path: Path, text: str, **overrides: object) -> Refused:
    with pytest.raises(Refused) as caught:
        read(tmp_path, text, **overrides)
    assert caught.value.kind is Kind.INVALID
    return caught.value


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        parent = "spiffe://example.org/a"
        state_dir = "/srv/state"
        x509_svid_ttl = "90s"
        jwt_svid_ttl = "1h30m"
        [limits]
        connections = 3
        wait = "1d"
        """,
    )
    assert config == Config(
        trust_domain=TrustDomain("example.org"),
        parent=SpiffeID.parse("spiffe://example.org/a"),
        state_dir=Path("/srv/state"),
        x509_svid_ttl=timedelta(seconds=90),
        jwt_svid_ttl=timedelta(minutes=90),
        limits=Limits(connections=3, wait=timedelta(days=1)),
    )


def test_a_flag_overrides_the_file(tmp_path: Path) -> None:
    config = read(tmp_path, 'x509_svid_ttl = "1h"\n[limits]\nconnections = 1', **{"limits.connections": 2})
    assert config.limits.connections == 2


def test_a_flag_that_was_not_given_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, 'x509_svid_ttl = "2h"', x509_svid_ttl=None).x509_svid_ttl == timedelta(hours=2)


def test_flags_alone_are_enough() -> None:
    assert load(None, Config, {"trust_domain": "example.org"}).limits == Limits()


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/one")
    assert read(tmp_path, 'state_dir = "~/state"').state_dir == Path("/home/one/state")


def test_a_home_directory_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="path ~no-such-user/state: expected a home directory, found none"):
        read(tmp_path, 'state_dir = "~no-such-user/state"')


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('x509_svid_tll = "1h"', "x509_svid_tll: unknown key"),
        ("[limits]\nconections = 1", "limits.conections: unknown key"),
        ('[limits]\nconnections = "many"', "limits.connections: expected a whole number, found 'many'"),
        ("limits = 1", "limits: expected a table, found 1"),
        ("x509_svid_ttl = 60", 'x509_svid_ttl: expected a duration such as "90s", "30m" or "1h", found 60'),
        ('x509_svid_ttl = "1 h"', "x509_svid_ttl: expected a duration such as 90s, 30m, 1h or 1d, found '1 h'"),
        ('x509_svid_ttl = "2d"', "x509_svid_ttl: expected at most 1 day, found 2 days, 0:00:00"),
        ('parent = "/a"', "parent: SPIFFE ID: expected the scheme spiffe://, found '/a'"),
        ('parent = "spiffe://example.org/a/"', "parent: path: expected no empty, . or .. segment, found ''"),
        ("[limits]\nconnections = true", "limits.connections: expected a whole number, found True"),
        ('colour = "green"', "colour: expected one of red, blue, found 'green'"),
        ("state_dir = 1", "state_dir: expected a string, found 1"),
        ("a = 1\nb ==", "expected TOML: Invalid value (at line 2, column 4)"),
        ("tables = 'x'", "tables: expected a table, found 'x'"),
        ("tables = []", "tables: expected a table, found []"),
        ("[tables]\na = 1", "tables.a: expected a table, found 1"),
        ("[tables]\na.b = 1", 'tables.a.b: expected a duration such as "90s", "30m" or "1h", found 1'),
        ("[tables]\na.b = 'x'", "tables.a.b: expected a duration such as 90s, 30m, 1h or 1d, found 'x'"),
        ("names = 'x'", "names: expected an array, found 'x'"),
        ("x509_svid_ttl = inf", 'x509_svid_ttl: expected a duration such as "90s", "30m" or "1h", found inf'),
        ("limits.connections = nan", "limits.connections: expected a whole number, found nan"),
        (f"limits.connections = {'9' * 5000}", "expected TOML: a number has too many digits"),
        (
            f"limits.connections = 0x{'f' * 5000}",
            "limits.connections: expected a number of at most 64 bits, found a larger one",
        ),
        (f"names = [0, {2**63}]", "names[1]: expected a number of at most 64 bits, found a larger one"),
        ('state_dir = "a\\u0000b"', r"state_dir: expected a string without NUL characters, found 'a\x00b'"),
        (f"names = {'[' * 40}{']' * 40}", "expected at most 32 levels of tables and arrays, found more"),
        (f"names = {'[' * 9000}{']' * 9000}", "expected TOML: it is nested too deeply"),
        (f"{'a.' * 5_000}b = 1", "expected at most 32 levels of tables and arrays, found more"),
        ("x509_svid_ttl = 2026-13-45", "expected TOML: "),
        (
            "x509_svid_ttl = 2026-11-29T00:00:00Z",
            'x509_svid_ttl: expected a duration such as "90s", "30m" or "1h", found datetime',
        ),
        (f"state_dir = [{'1, ' * 9999}]", "… (29997 characters)"),
        (f"{'k' * 9999} = 1", "… (9999 characters): unknown key"),
        ('"\\u001b[2J" = 1', r"\x1b[2J: unknown key"),
    ],
)
def test_a_refusal_names_the_key_and_what_came(tmp_path: Path, text: str, detail: str) -> None:
    assert detail in refusal(tmp_path, text).detail


def test_a_misspelt_key_is_met_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[limits]\nconections = 1").hint == "did you mean limits.connections?"


def test_a_key_like_no_other_is_met_with_all_known_ones(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[limits]\nzzz = 1").hint == "known keys: connections, wait"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(Refused, match="trust_domain: expected a value, found none") as refused:
        load(None, Config, {})
    assert refused.value.hint == "set trust_domain in the configuration, or use its flag"


def test_no_hint_names_a_flag_for_a_key_in_a_table() -> None:
    with pytest.raises(Refused, match=r"a\.b\.trust_domain: expected a value, found none") as refused:
        read_table({}, Config, key="a.b")
    assert refused.value.hint == "set a.b.trust_domain in the configuration"


def test_values_in_tables_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "tables.a = {b = '1h', c = '2h'}").tables == {
        "a": {"b": timedelta(hours=1), "c": timedelta(hours=2)}
    }


def test_a_flag_below_a_key_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert "limits: expected a table" in refusal(tmp_path, "limits = 1", **{"limits.wait": "1s"}).detail


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\x00")
    with pytest.raises(Refused, match="expected TOML"):
        load(tmp_path / "config.toml", Config, {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such file") as caught:
        load(tmp_path / "none.toml", Config, {})
    assert caught.value.kind is Kind.NOT_FOUND


def test_a_file_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is a directory"):
        load(tmp_path, Config, {})


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    assert "expected at most 1048576 bytes" in refusal(tmp_path, "#" * 1048577).detail


def test_a_key_of_the_file_that_a_table_swallowed_is_told_where_to_go(tmp_path: Path) -> None:
    file = tmp_path / "issuer.toml"
    file.write_text(
        'trust_domain = "example.org"\n[providers.x]\naudience = "a"\nlongest_life = "1h"\njwt_svid_ttl = "5m"\n'
    )
    with pytest.raises(Refused, match=r"providers\.x\.jwt_svid_ttl: unknown key") as refused:
        load(file, IssuerConfig, {})
    assert (
        refused.value.hint == "a key after a [table] belongs to that table: write jwt_svid_ttl before the first [table]"
    )
