"""svid/integrations/exchange_profiles: what may be sent where."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from svid.errors import ExchangeError
from svid.integrations.exchange_profiles import (
    Profile,
    anthropic_profile,
    aws_sts_profile,
    azure_profile,
    gcp_sts_profile,
    generic_profile,
    openai_profile,
    vault_profile,
)

URL = "https://sts.example.org/token"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/own"
ADDRESSES = [
    (anthropic_profile("r", "o"), "https://api.anthropic.com/v1/oauth/token", "https://api.anthropic.com"),
    (openai_profile("i", "s"), "https://auth.openai.com/oauth/token", "https://api.openai.com/v1"),
    (gcp_sts_profile(PROVIDER), "https://sts.googleapis.com/v1/token", f"https://iam.googleapis.com/{PROVIDER}"),
    (
        azure_profile("t/x", "c", "s"),
        "https://login.microsoftonline.com/t%2Fx/oauth2/v2.0/token",
        "api://AzureADTokenExchange",
    ),
    (vault_profile("https://v:8200/", "r", "a", mount="/x/y/"), "https://v:8200/v1/auth/x/y/login", "a"),
    (aws_sts_profile("arn", "s", region="eu-west-1"), "https://sts.eu-west-1.amazonaws.com/", "sts.amazonaws.com"),
    (generic_profile(URL, "a"), URL, "a"),
]


@pytest.mark.parametrize(("profile", "url", "audience"), ADDRESSES, ids=lambda one: getattr(one, "name", None))
def test_a_profile_knows_where_and_for_whom(profile: Profile, url: str, audience: str) -> None:
    assert (profile.url, profile.audience) == (url, audience)


KNOWN = [profile.audience for profile, _, _ in ADDRESSES if profile.name not in {"vault", "generic"}]
MAKERS: dict[str, Callable[[str], Profile]] = {
    "anthropic": lambda audience: anthropic_profile("r", "o", audience=audience),
    "openai": lambda audience: openai_profile("i", "s", audience=audience),
    "gcp_sts": lambda audience: gcp_sts_profile(PROVIDER, audience=audience),
    "azure": lambda audience: azure_profile("t", "c", "s", audience=audience),
    "vault": lambda audience: vault_profile("https://v", "r", audience),
    "aws_sts": lambda audience: aws_sts_profile("arn", "s", audience=audience),
    "generic": lambda audience: generic_profile(URL, audience),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_an_audience_of_another_provider_is_refused_before_anything_leaves(maker: str) -> None:
    for owner, audience in zip(("anthropic", "openai", "gcp_sts", "azure", "aws_sts"), KNOWN, strict=True):
        if owner == maker:
            assert MAKERS[maker](audience).audience == audience
        else:
            with pytest.raises(ExchangeError, match=f"audience {audience} is that of {owner}"):
                MAKERS[maker](audience)
    assert MAKERS[maker]("https://own.example.org").audience == "https://own.example.org"


OTHERS = [
    "https://api.anthropic.com/",
    "https://platform.claude.com",
    "https://api.openai.com",
    "//iam.googleapis.com/x",
    "api://azureadtokenexchange",
    "api://AzureADTokenExchangeUSGov",
    "sts.eu-west-1.amazonaws.com",
    "sts.amazonaws.com.cn",
    "https://API.anthropic.com",
    "HTTPS://api.anthropic.com",
    "https://api.anthropic.com:443",
    "https://api.anthropic.com:443/v1",
    "https://api.anthropic.com./",
    "http://api.anthropic.com",
    "api.anthropic.com",
    " https://api.anthropic.com ",
    "https://Auth.OpenAI.com?a",
    "//STS.googleapis.com:443/x",
    "api://AzureADTokenExchange/ ",
    "STS.amazonaws.com",
    "sts-fips.us-east-1.amazonaws.com",
    "https://STS.us-east-1.amazonaws.com:443/",
    "sts.us-east-1.api.aws",
    "vpce-1.sts.us-east-1.vpce.amazonaws.com",
]


@pytest.mark.parametrize("audience", OTHERS)
def test_each_way_to_write_a_known_audience_is_known(audience: str) -> None:
    with pytest.raises(ExchangeError, match="is that of"):
        generic_profile(URL, audience)


STRANGERS = [
    "https://api.anthropic.com.example.org",
    "https://own.example.org/https://api.anthropic.com",
    "https://api.anthropic.com:8443",
    "https://own-sts.amazonaws.com.example.org",
    "https://mysts.amazonaws.com",
    "https://s3.amazonaws.com",
]


@pytest.mark.parametrize("audience", STRANGERS)
def test_an_audience_that_only_resembles_a_known_one_is_taken(audience: str) -> None:
    assert generic_profile(URL, audience).audience == audience


BAD_URLS = [
    "",
    "sts.example.org",
    "http://sts.example.org/token",
    "http://127.0.0.1.example.org/",
    "http://localhost.example.org/",
    "ftp://localhost/",
    "file:///etc/passwd",
    "https://",
    "https:///token",
    "https://user:secret@sts.example.org/",
    "https://sts.example.org/?a=b",
    "https://sts.example.org/#a",
    "https://sts.example.org:99999/",
    "https://sts.example.org/a b",
    "https://sts.example.org/\r\nX: y",
    "https://stß.example.org/",
    "https://[::1/",
    f"https://{'a' * 1100}/",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_only_https_is_taken(url: str) -> None:
    with pytest.raises(ExchangeError, match="url: expected") as caught:
        generic_profile(url, "a")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:1/", "http://127.0.0.5/x", "http://[::1]:80/", URL])
def test_http_is_taken_on_loopback(url: str) -> None:
    assert generic_profile(url, "a").url == url


@pytest.mark.parametrize("audience", ["", "a\nb", "é", "a\0"])
def test_an_audience_is_printable(audience: str) -> None:
    with pytest.raises(ExchangeError, match="audience: expected printable ASCII"):
        generic_profile(URL, audience)


@pytest.mark.parametrize("fields", [{"grant_type": "x"}, {"assertion": "x"}, {"a": "\ud800"}, {"a": 1}])
def test_fields_are_texts_beside_those_of_the_grant(fields: dict[str, str]) -> None:
    with pytest.raises(ExchangeError, match="generic: field"):
        generic_profile(URL, "a", fields=fields)


def test_an_unknown_grant_is_refused() -> None:
    with pytest.raises(ExchangeError, match="expected jwt-bearer or token-exchange, found 'password'"):
        generic_profile(URL, "a", grant="password")  # type: ignore[arg-type]  # the test


@pytest.mark.parametrize("namespace", ["a\r\nX-Evil: b", "", "é"])
def test_a_header_cannot_smuggle_another(namespace: str) -> None:
    with pytest.raises(ExchangeError, match="header 'X-Vault-Namespace'"):
        vault_profile("https://v", "r", "a", namespace=namespace)


@pytest.mark.parametrize("provider", ["", "own", f"//iam.googleapis.com/{PROVIDER}", f"{PROVIDER}/../other"])
def test_a_provider_of_google_has_one_form(provider: str) -> None:
    with pytest.raises(ExchangeError, match="gcp_sts: provider: expected projects/NUMBER"):
        gcp_sts_profile(provider)


def test_a_life_of_nothing_is_refused() -> None:
    with pytest.raises(ExchangeError, match="default_life"):
        generic_profile(URL, "a", default_life=timedelta())
    with pytest.raises(ExchangeError, match="longest_life"):
        aws_sts_profile("arn:aws:iam::1:role/r", "s", duration=timedelta())


def test_what_a_profile_sends_cannot_be_changed_later_and_is_in_no_text() -> None:
    fields = {"assertion_of_another": "hid den"}
    profile = generic_profile(URL, "a", fields=fields)
    fields["assertion_of_another"] = "changed"
    assert profile.fields["assertion_of_another"] == "hid den"
    assert "hid den" not in repr(profile)
    with pytest.raises(TypeError):
        profile.fields["assertion_of_another"] = "changed"  # type: ignore[index]  # the test


@pytest.mark.parametrize(
    "address", ["https://v/v1", "https://v/v1/", "https://v:8200/v1/auth/jwt/login", "https://v/proxied/v1/auth"]
)
def test_an_address_of_vault_that_has_the_path_of_the_login_is_refused(address: str) -> None:
    with pytest.raises(ExchangeError, match="expected one as VAULT_ADDR, without /v1"):
        vault_profile(address, "r", "a")
    assert vault_profile("https://v/proxied", "r", "a").url == "https://v/proxied/v1/auth/jwt/login"


EMPTY: list[Callable[[str], Profile]] = [
    lambda empty: anthropic_profile(empty, "org"),
    lambda empty: anthropic_profile("fdrl_1", empty),
    lambda empty: anthropic_profile("fdrl_1", "org", service_account_id=empty),
    lambda empty: anthropic_profile("fdrl_1", "org", workspace_id=empty),
    lambda empty: openai_profile(empty, "sa_1"),
    lambda empty: openai_profile("idp_1", empty),
    lambda empty: openai_profile("idp_1", "sa_1", audience=empty),
    gcp_sts_profile,
    lambda empty: azure_profile(empty, "client", "scope"),
    lambda empty: azure_profile("tenant", empty, "scope"),
    lambda empty: azure_profile("tenant", "client", empty),
    lambda empty: vault_profile(empty, "role", "vault"),
    lambda empty: vault_profile("https://vault.example.org", empty, "vault"),
    lambda empty: vault_profile("https://vault.example.org", "role", empty),
    lambda empty: vault_profile("https://vault.example.org", "role", "vault", mount=empty),
    lambda empty: vault_profile("https://vault.example.org", "role", "vault", namespace=empty),
    lambda empty: aws_sts_profile(empty, "session"),
    lambda empty: aws_sts_profile("arn:aws:iam::1:role/r", empty),
    lambda empty: aws_sts_profile("arn:aws:iam::1:role/r", "session", region=empty),
    lambda empty: generic_profile(empty, "https://sts.example.org"),
    lambda empty: generic_profile("https://sts.example.org", empty),
    lambda empty: generic_profile("https://sts.example.org", "own", fields={"scope": empty}),
]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("make", EMPTY)
def test_an_empty_text_is_refused(make: Callable[[str], Profile], empty: str) -> None:
    with pytest.raises(ExchangeError, match="expected"):
        make(empty)


def test_a_life_that_is_no_timedelta_says_what_is_expected() -> None:
    with pytest.raises(TypeError, match="generic: default_life: expected a timedelta"):
        generic_profile("https://sts.example.org", "own", default_life=60)  # type: ignore[arg-type]  # as somebody without a type checker
    with pytest.raises(TypeError, match="aws_sts: duration: expected a timedelta"):
        aws_sts_profile("arn:aws:iam::1:role/r", "session", duration=900)  # type: ignore[arg-type]  # as above
