"""What an issuer's store and keys may be beside each other."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from cognomen.daemon.config import load
from cognomen.protocol.errors import Kind, Refused
from issuer.config import DatastoreChoice, IssuerConfig, longest_lives
from svid.keys import KeyKind


def read(tmp_path: Path, **keys: str) -> IssuerConfig:
    lines = [f'{key} = "{value}"' for key, value in {"trust_domain": "example.org", **keys}.items()]
    path = tmp_path / "issuer.toml"
    path.write_text("\n".join(lines))
    return load(path, IssuerConfig, {})


def test_an_issuer_remembers_on_disk_unless_told_otherwise(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert (config.datastore, config.key_manager) == (DatastoreChoice.SQLITE, "disk")


@pytest.mark.parametrize(("datastore", "key_manager"), [("sqlite", "disk"), ("memory", "memory")])
def test_store_and_keys_may_end_together(tmp_path: Path, datastore: str, key_manager: str) -> None:
    config = read(tmp_path, datastore=datastore, key_manager=key_manager)
    assert (config.datastore, config.key_manager) == (datastore, key_manager)


@pytest.mark.parametrize(
    ("keys", "expected", "why"),
    [
        ({"datastore": "memory"}, "memory, because datastore is memory, found disk", "leave keys behind"),
        (
            {"key_manager": "memory"},
            "one that keeps its keys, because datastore is sqlite, found memory",
            "could not start again",
        ),
    ],
)
def test_a_store_and_keys_of_which_one_outlives_the_other_are_refused_with_the_reason(
    tmp_path: Path, keys: dict[str, str], expected: str, why: str
) -> None:
    with pytest.raises(Refused) as refused:
        read(tmp_path, **keys)
    assert (refused.value.kind, refused.value.detail) == (Kind.INVALID, f"key_manager: expected {expected}")
    assert why in refused.value.hint
    assert 'key_manager = "' in refused.value.hint
    assert 'datastore = "' in refused.value.hint


def test_another_store_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="datastore: expected one of sqlite, memory"):
        read(tmp_path, datastore="mysql")


@pytest.mark.parametrize("kept", ["0s", "3651d", "1500ms"])
def test_uses_are_kept_for_a_time_that_makes_sense(tmp_path: Path, kept: str) -> None:
    assert read(tmp_path, uses_kept="1d").uses_kept == timedelta(days=1)
    with pytest.raises((Refused, ValueError), match="uses_kept"):
        read(tmp_path, uses_kept=kept)


@pytest.mark.parametrize("first", ["0s", "11m", "1500ms"])
def test_a_breaker_stays_open_for_a_time_that_makes_sense(tmp_path: Path, first: str) -> None:
    assert read(tmp_path, breaker_open="10m").breaker_open == timedelta(minutes=10)
    with pytest.raises((Refused, ValueError), match="breaker_open"):
        read(tmp_path, breaker_open=first)


def test_tokens_name_no_issuer_unless_the_operator_says_which(tmp_path: Path) -> None:
    assert read(tmp_path).jwt_issuer == ""
    assert read(tmp_path, jwt_issuer="https://oidc.example.org").jwt_issuer == "https://oidc.example.org"


def test_what_cannot_be_an_issuers_url_is_refused_by_the_name_of_its_key(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="jwt_issuer: expected an https URL such as"):
        read(tmp_path, jwt_issuer="http://oidc.example.org")


@pytest.mark.parametrize("kind", KeyKind)
def test_jwt_authorities_may_have_each_kind_of_key_that_we_make(tmp_path: Path, kind: KeyKind) -> None:
    assert read(tmp_path, jwt_authority_key=kind.value).jwt_authority_key is kind


def test_another_kind_of_key_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="one of ec-p256, ec-p384, rsa-2048, rsa-4096"):
        read(tmp_path, jwt_authority_key="ed25519")


def of_providers(tmp_path: Path, *lines: str) -> IssuerConfig:
    path = tmp_path / "issuer.toml"
    path.write_text("\n".join(['trust_domain = "example.org"', *lines]))
    return load(path, IssuerConfig, {})


def test_of_two_providers_with_one_audience_the_longer_life_counts(tmp_path: Path) -> None:
    found = of_providers(
        tmp_path,
        *("[providers.b]", 'audience = "x"', 'longest_life = "2h"'),
        *("[providers.a]", 'audience = "x"', 'longest_life = "1h"'),
        *("[providers.c]", 'audience = "y"', 'longest_life = "10m"'),
    )
    assert longest_lives(found.providers.values()) == {"x": timedelta(hours=2), "y": timedelta(minutes=10)}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['audience = "x"'], "providers.a.longest_life: expected a value, found none"),
        (['longest_life = "1h"'], "providers.a.audience: expected a value, found none"),
        (['audience = ""', 'longest_life = "1h"'], "providers.a.audience"),
        (['audience = "x"', 'longest_life = "366d"'], "providers.a.longest_life: expected whole seconds from 1s to 365d"),
        (['audience = "x"', "longest_life = 3600"], "providers.a.longest_life: expected a duration"),
        (['audience = "x"', 'longest_life = "1h"', 'url = "y"'], "providers.a.url"),
    ],
)  # fmt: skip
def test_a_provider_that_says_too_little_or_too_much_is_refused(
    tmp_path: Path, lines: list[str], expected: str
) -> None:
    with pytest.raises(Refused, match=re.escape(expected)):
        of_providers(tmp_path, "[providers.a]", *lines)
