"""Adapters are found by their names: the built-in ones, and those of other packages, with the settings that each owns."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pytest

import attestor.adapters
import issuer.adapters
from attestor.config import AttestorConfig
from bench.rig.daemons import COGNOMEN
from cognomen.daemon.plugins import NoSettings, Plugin, Seam, names_of
from cognomen.protocol.errors import Kind, Refused
from issuer.config import IssuerConfig
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.installed import install


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the plugin below can be told."""

    greeting: str = "hello"


GREETER: Plugin[Settings, str, str] = Plugin(Settings, lambda settings, place: f"{settings.greeting} {place}")
NOTHING: Plugin[NoSettings, str, str] = Plugin(NoSettings, lambda _settings, place: place)
NO_PLUGIN = "a text"


class Odd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings whose own check fails in a way that nobody expects."""

    def __post_init__(self) -> None:
        raise KeyError("of another package")


ODD: Plugin[Odd, str, str] = Plugin(Odd, lambda _settings, place: place)


class Named:
    """An adapter that says what it is called."""

    name = "somebody else"


def _raises(_settings: NoSettings, _place: str) -> str:
    raise ZeroDivisionError("of another package")


def _leaves(_settings: NoSettings, _place: str) -> str:
    raise SystemExit(0)


def _refuses(_settings: NoSettings, _place: str) -> str:
    raise Refused(Kind.UNAVAILABLE, "secret_file: no such file")


LEAVING: Plugin[NoSettings, str, str] = Plugin(NoSettings, _leaves)
MISNAMED: Plugin[NoSettings, str, Named] = Plugin(NoSettings, lambda _settings, _place: Named())
RAISING: Plugin[NoSettings, str, str] = Plugin(NoSettings, _raises)
REFUSING: Plugin[NoSettings, str, str] = Plugin(NoSettings, _refuses)
SEAM: Seam[str, str] = Seam(group="tests.greeters", key="greeter")
HERE = "tests.unit.cognomen.daemon.test_plugins"


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "greeter": f"{HERE}:GREETER",
        "nothing": f"{HERE}:NOTHING",
        "text": f"{HERE}:NO_PLUGIN",
        "leaving": "leaving:PLUGIN",
        "misnamed": f"{HERE}:MISNAMED",
        "raising": f"{HERE}:RAISING",
        "odd": f"{HERE}:ODD",
        "refusing": f"{HERE}:REFUSING",
        "leaves": f"{HERE}:LEAVING",
        "gone": f"{HERE}:GONE",
        "elsewhere": "tests.no_such_module:PLUGIN",
    }
    site = install(tmp_path / "site", {SEAM.group: entries})
    (site / "leaving.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(site)


@pytest.mark.usefixtures("_installed")
def test_a_plugin_of_another_package_is_made_with_its_own_settings() -> None:
    assert SEAM.find("greeter", {})("world") == "hello world"
    assert SEAM.find("greeter", {"greeter": {"greeter": {"greeting": "bye"}}})("world") == "bye world"


@pytest.mark.usefixtures("_installed")
def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refused) as refused:
        SEAM.find("greter", {})
    assert refused.value.kind is Kind.INVALID
    assert refused.value.detail == f"greeter: expected one of {', '.join(SEAM.names())}, found 'greter'"
    assert {"greeter", "text"} <= set(SEAM.names())


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"greeting": 5}, r"plugins\.greeter\.greeter\.greeting: expected a string, found 5"),
        ({"greting": "x"}, r"plugins\.greeter\.greeter\.greting: unknown key"),
    ],
)
def test_settings_that_a_plugin_does_not_take_are_refused_by_their_keys(
    settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        SEAM.find("greeter", {"greeter": {"greeter": settings}})


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("text", Kind.INVALID, "expected a plugin at .*NO_PLUGIN, found str"),
        ("gone", Kind.INVALID, "gone cannot be loaded"),
        ("elsewhere", Kind.INVALID, "elsewhere cannot be loaded"),
        ("leaving", Kind.INVALID, "leaving cannot be loaded: SystemExit: 0"),
        ("odd", Kind.INVALID, "odd cannot read its settings: KeyError: 'of another package'"),
    ],
)
def test_what_is_no_plugin_is_refused(name: str, kind: Kind, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        SEAM.find(name, {})
    assert refused.value.kind is kind


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("raising", Kind.INVALID, "raising cannot be made: ZeroDivisionError: of another package"),
        ("leaves", Kind.INVALID, "leaves cannot be made: SystemExit: 0"),
        ("refusing", Kind.INVALID, "secret_file: no such file"),
        ("misnamed", Kind.INVALID, "expected an adapter with the name misnamed, found 'somebody else'"),
    ],
)
def test_an_adapter_that_cannot_be_made_or_goes_by_another_name_is_refused(name: str, kind: Kind, reason: str) -> None:
    make = SEAM.find(name, {})
    with pytest.raises(Refused, match=reason) as refused:
        make("world")
    assert refused.value.kind is kind


@pytest.mark.usefixtures("_installed")
def test_a_name_that_two_packages_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = install(tmp_path / "other", {SEAM.group: {"greeter": f"{HERE}:NOTHING"}}, package="impostor")
    monkeypatch.syspath_prepend(other)
    with pytest.raises(Refused, match="expected 1 plugin greeter, found 2") as refused:
        SEAM.find("greeter", {})
    assert refused.value.kind is Kind.CONFLICT


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("elsewhere", "reinstall the package that provides tests.no_such_module:PLUGIN"),
        ("odd", "see its settings, plugins.greeter.odd"),
        ("raising", "see its settings, plugins.greeter.raising"),
        ("refusing", "see its settings, plugins.greeter.refusing"),
    ],
)
def test_a_plugin_that_does_not_work_is_refused_with_what_to_do(name: str, hint: str) -> None:
    with pytest.raises(Refused) as refused:
        SEAM.find(name, {})("world")
    assert hint in refused.value.hint


def test_where_nothing_is_installed_the_hint_says_so() -> None:
    with pytest.raises(Refused, match="expected one of the installed ones, found 'greeter'") as refused:
        SEAM.find("greeter", {})
    assert "install" in refused.value.hint


def test_names_are_separated_by_commas() -> None:
    assert names_of("key", "one, two") == ("one", "two")


@pytest.mark.parametrize("text", ["", ",", "one,", "one, one"])
def test_an_empty_name_and_one_twice_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="key: expected names separated by commas"):
        names_of("key", text)


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("cognomen.issuer.node_attestors", {"join_token"}),
        ("cognomen.issuer.upstream_authorities", {"self_signed"}),
        ("cognomen.issuer.key_managers", {"disk", "memory"}),
        ("cognomen.attestor.node_attestors", {"join_token"}),
        ("cognomen.attestor.workload_attestors", {"unix"}),
    ],
)
def test_the_built_in_ones_are_plugins_like_all_others(group: str, names: set[str]) -> None:
    seam: Seam[object, object] = Seam(group=group, key="key")
    assert names <= set(seam.names())
    for name in names:
        assert callable(seam.find(name, {}))


def issuer_adapters(**keys: object) -> object:
    config = msgspec.structs.replace(IssuerConfig(trust_domain=TrustDomain("example.org")), **keys)
    return issuer.adapters.make_adapters(config, FakeClock())


def attestor_adapters(**keys: object) -> object:
    return attestor.adapters.make_adapters(msgspec.structs.replace(AttestorConfig(), **keys), FakeClock(), None)


@pytest.mark.parametrize(
    ("find", "detail"),
    [
        (
            partial(issuer_adapters, node_attestors="join_token,other"),
            "node_attestors: expected one of join_token, found 'other'",
        ),
        (
            partial(issuer_adapters, upstream_authority="other"),
            "upstream_authority: expected one of self_signed, found 'other'",
        ),
        (
            partial(issuer_adapters, key_manager="other"),
            "key_manager: expected one of disk, memory, found 'other'",
        ),
        (
            partial(attestor_adapters, node_attestor="other"),
            "node_attestor: expected one of join_token, found 'other'",
        ),
        (
            partial(attestor_adapters, workload_attestors="other"),
            "workload_attestors: expected one of unix, found 'other'",
        ),
    ],
)
def test_a_configuration_that_names_no_adapter_is_refused_by_its_key(find: Callable[[], object], detail: str) -> None:
    with pytest.raises(Refused) as refused:
        find()
    assert refused.value.detail == detail


@pytest.mark.parametrize(
    ("find", "key", "name"),
    [
        (partial(issuer_adapters, node_attestors="join_tokens"), "node_attestors", "join_token"),
        (partial(issuer_adapters, upstream_authority="self_singed"), "upstream_authority", "self_signed"),
        (partial(issuer_adapters, key_manager="dsk"), "key_manager", "disk"),
        (partial(attestor_adapters, node_attestor="join_tokens"), "node_attestor", "join_token"),
        (partial(attestor_adapters, workload_attestors="unx"), "workload_attestors", "unix"),
    ],
)
def test_a_misspelt_name_is_refused_as_such_although_its_table_is_spelt_well(
    find: "partial[object]", key: str, name: str
) -> None:
    with pytest.raises(Refused, match=rf"^{key}: expected one of .*{name}") as refused:
        find(plugins={key: {name: {}}})
    assert "remove" not in refused.value.hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A table that nobody reads, and what is said about it."""

    daemon: str
    key: str
    name: str
    detail: str
    hint: str


def unchosen(daemon: str, key: str, name: str, chosen: str) -> Unread:
    found = "found settings of a plugin that is not chosen"
    detail = f"plugins.{key}.{name}: expected settings of {chosen}, {found}"
    hint = f"{key} chooses the plugins: name it there, or remove this table"
    return Unread(daemon=daemon, key=key, name=name, detail=detail, hint=hint)


UNREAD = [
    unchosen("issuer", "node_attestors", "hardware_key", "join_token"),
    unchosen("issuer", "key_manager", "memory", "disk"),
    unchosen("attestor", "workload_attestors", "cgroup", "unix"),
    Unread(
        daemon="issuer",
        key="node_attestor",
        name="join_token",
        detail="plugins.node_attestor: unknown key",
        hint="did you mean plugins.node_attestors?",
    ),
    Unread(
        daemon="attestor",
        key="upstream",
        name="other",
        detail="plugins.upstream: unknown key",
        hint="known keys: node_attestor, workload_attestors",
    ),
]


@pytest.mark.parametrize("unread", UNREAD, ids=lambda unread: f"{unread.key}.{unread.name}")
@pytest.mark.parametrize("settings", [{}, {"a": 1}], ids=["empty", "full"])
def test_settings_that_nobody_reads_are_refused_by_their_key(unread: Unread, settings: dict[str, object]) -> None:
    make = issuer_adapters if unread.daemon == "issuer" else attestor_adapters
    with pytest.raises(Refused) as refused:
        make(plugins={unread.key: {unread.name: settings}})
    found = refused.value
    assert (found.kind, found.detail, found.hint) == (Kind.INVALID, unread.detail, unread.hint)


def test_settings_of_chosen_plugins_are_read() -> None:
    assert issuer_adapters(plugins={"node_attestors": {"join_token": {}}, "key_manager": {}})
    assert attestor_adapters(plugins={"workload_attestors": {"unix": {}}})


@pytest.mark.parametrize("daemon", ["issuer", "attestor"])
def test_check_and_run_refuse_the_same_table(daemon: str, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'trust_domain = "example.org"\nstate_dir = "{tmp_path}/state"\n[plugins.key_manger.disk]\n')
    for command in ("check", "run"):
        arguments = [*COGNOMEN, daemon, command, f"--config={config}"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error: plugins.key_manger: unknown key")
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize(
    "arguments",
    [("issuer", "check", "--trust-domain=example.org", "--key-manager=x"), ("attestor", "check", "--node-attestor=x")],
)
def test_check_finds_it_before_anything_is_started(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([*COGNOMEN, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode
    assert "found 'x'" in done.stderr
