"""Profiles of providers: where a JWT-SVID is exchanged for their token, in which form, and what its audience must be.

Decided here: names of fields, headers, default audiences. How an exchange goes: svid/integrations/exchange; forms of answers:
svid/integrations/exchange_answers. The providers' documentation rules; it was read in November 2026.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote, urlencode

from svid.errors import ExchangeError
from svid.integrations.exchange_answers import LONGEST_LIFE, Answer, read_aws, read_oauth, read_vault
from svid.integrations.exchange_known import owners
from svid.integrations.exchange_post import check_url
from svid.source import demand_duration

__all__ = [
    "Profile",
    "anthropic_profile",
    "aws_sts_profile",
    "azure_profile",
    "gcp_sts_profile",
    "generic_profile",
    "openai_profile",
    "vault_profile",
]

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - no password
_JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
_ACCESS_TYPE = "urn:ietf:params:oauth:token-type:access_token"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_GRANTS: Mapping[str, tuple[str, Mapping[str, str]]] = {  # the field of the assertion, and the fields beside it
    "jwt-bearer": ("assertion", {"grant_type": _JWT_BEARER}),
    "token-exchange": ("subject_token", {"grant_type": _TOKEN_EXCHANGE, "subject_token_type": _JWT_TYPE}),
}
_GCP_PROVIDER = re.compile(r"projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+")
_PRINTABLE = re.compile(r"[ -~]*[!-~][ -~]*")
_HEADER = re.compile(r"[A-Za-z0-9-]+")
_LONGEST_AWS_LIFE = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one provider exchanges JWT-SVIDs. A function of this module makes it, such as `vault_profile`; your own may as well.

    Attributes:
        name: the provider's name, for people.
        url: where the exchange is posted: https, or http on loopback.
        audience: the only audience of the JWT-SVID.
        assertion_field: the name of the field with the JWT-SVID.
        fields: the other fields of the body.
        is_form: whether the body is a form; otherwise it is a JSON object.
        headers: what is sent beside Content-Type.
        read: reads the provider's answer; a ValueError says what is wrong with it, without a part of it.
        needs_issuer: whether the JWT-SVID must have `iss`.
        default_life: how long a token lives if the answer does not say.
        longest_life: how long a token lives at most, whatever the answer says.
        rule: what to look at if the provider refuses a JWT-SVID.

    Raises:
        ExchangeError: the URL, a header or a field cannot be sent, or is empty, or the audience is that of another provider.
        TypeError: the life is no timedelta.
    """

    name: str
    url: str
    audience: str
    assertion_field: str
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_form: bool = True
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    read: Callable[[bytes], Answer] = field(default=read_oauth, repr=False)
    needs_issuer: bool = True
    default_life: timedelta | None = None
    longest_life: timedelta = LONGEST_LIFE
    rule: str = "the rule for this identity at the provider"

    def __post_init__(self) -> None:
        check_url(self.url)
        if not _PRINTABLE.fullmatch(self.audience):
            raise ExchangeError(f"{self.name}: audience: expected printable ASCII characters")
        for owner in owners(self.audience) - {self.name}:
            raise ExchangeError(f"{self.name}: audience {self.audience} is that of {owner}, which could be shown it")
        self._check_fields()
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or not _PRINTABLE.fullmatch(value):
                raise ExchangeError(f"{self.name}: header {name!r}: expected printable ASCII characters")
        _check_life(self.name, self.default_life)
        if self.longest_life <= timedelta():
            raise ExchangeError(f"{self.name}: longest_life: expected a positive time")
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))

    def _check_fields(self) -> None:
        if self.assertion_field in self.fields:
            raise ExchangeError(f"{self.name}: field {self.assertion_field} is that of the JWT-SVID")
        for name, value in self.fields.items():
            if not _is_text(value):  # some callers have no type checker
                raise ExchangeError(f"{self.name}: field {name}: expected a text")
            if not value.strip():
                raise ExchangeError(f"{self.name}: field {name}: expected a text, found an empty one")

    def body(self, assertion: str) -> bytes:
        """What is posted with this JWT-SVID."""
        members = {**self.fields, self.assertion_field: assertion}
        return (urlencode(members) if self.is_form else json.dumps(members)).encode()

    @property
    def content_type(self) -> str:
        """The type of the body."""
        return "application/x-www-form-urlencoded" if self.is_form else "application/json"


def anthropic_profile(
    federation_rule_id: str,
    organization_id: str,
    *,
    service_account_id: str | None = None,
    workspace_id: str | None = None,
    audience: str = "https://api.anthropic.com",
    url: str = "https://api.anthropic.com/v1/oauth/token",
) -> Profile:
    """Workload identity federation of the Claude API; the audience is the one of the federation rule.

    An API call with the token carries the header `anthropic-beta: oauth-2025-04-20` as well.
    """
    optional = {"service_account_id": service_account_id, "workspace_id": workspace_id}
    fields = {"federation_rule_id": federation_rule_id, "organization_id": organization_id, **_given(optional)}
    return Profile(
        name="anthropic",
        url=url,
        audience=audience,
        assertion_field="assertion",
        fields={"grant_type": _JWT_BEARER, **fields},
        is_form=False,
        headers={"anthropic-beta": "oauth-2025-04-20,oidc-federation-2026-04-01"},
        rule="the federation rule, and the authentication events, in the Claude Console",
    )


def openai_profile(
    identity_provider_id: str,
    service_account_id: str,
    *,
    audience: str = "https://api.openai.com/v1",
    url: str = "https://auth.openai.com/oauth/token",
) -> Profile:
    """Workload identity federation of the OpenAI API; the audience is the one of the workload identity provider there."""
    assertion_field, fields = _GRANTS["token-exchange"]
    ids = {"identity_provider_id": identity_provider_id, "service_account_id": service_account_id}
    return Profile(
        name="openai",
        url=url,
        audience=audience,
        assertion_field=assertion_field,
        fields={**fields, **ids},
        is_form=False,
        rule="the workload identity provider and its mapping to the service account",
    )


def gcp_sts_profile(
    provider: str,
    *,
    scope: str = "https://www.googleapis.com/auth/cloud-platform",
    audience: str | None = None,
    url: str = "https://sts.googleapis.com/v1/token",
) -> Profile:
    """Workload identity federation of Google Cloud; the token is that of the federated identity itself, not of a service account.

    Args:
        provider: `projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`.
        audience: one of the provider's allowed audiences; None means the default one, its own URL.

    Raises:
        ExchangeError: as Profile; or it is not the name of a provider.
    """
    if not _GCP_PROVIDER.fullmatch(provider):
        form = "projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"
        raise ExchangeError(f"gcp_sts: provider: expected {form}, found {provider[:200]!r}")
    assertion_field, fields = _GRANTS["token-exchange"]
    return Profile(
        name="gcp_sts",
        url=url,
        audience=f"https://iam.googleapis.com/{provider}" if audience is None else audience,
        assertion_field=assertion_field,
        fields={
            **fields,
            "audience": f"//iam.googleapis.com/{provider}",
            "requested_token_type": _ACCESS_TYPE,
            "scope": scope,
        },
        rule="the provider of the workload identity pool: issuer, allowed audiences, attribute mapping and condition",
    )


def azure_profile(
    tenant: str,
    client_id: str,
    scope: str,
    *,
    audience: str = "api://AzureADTokenExchange",
    authority: str = "https://login.microsoftonline.com",
) -> Profile:
    """A federated credential of an application in Microsoft Entra ID, which takes only RS256: the issuer needs RSA keys for JWT-SVIDs.

    Args:
        scope: what the token is for, such as `https://vault.azure.net/.default`.
    """
    _demand_text("azure", tenant=tenant)
    return Profile(
        name="azure",
        url=f"{authority}/{quote(tenant, safe='')}/oauth2/v2.0/token",
        audience=audience,
        assertion_field="client_assertion",
        fields={
            "grant_type": "client_credentials",
            "client_id": client_id,
            "scope": scope,
            "client_assertion_type": _ASSERTION_TYPE,
        },
        rule="the federated credential of the application: issuer, subject and audience must be equal letter by letter",
    )


def vault_profile(
    address: str, role: str, audience: str, *, mount: str = "jwt", namespace: str | None = None
) -> Profile:
    """A login at the JWT auth method of Vault or OpenBao; the audience is one of the role's `bound_audiences`.

    Args:
        address: as VAULT_ADDR.
        mount: where the auth method is mounted.

    Raises:
        ExchangeError: as Profile; or the address has the path of the login already.
    """
    _demand_text("vault", address=address, mount=mount.strip("/"))
    if "/v1/" in f"{address}/":
        raise ExchangeError(
            f"vault: address: expected one as VAULT_ADDR, without /v1 and what follows, found {address[:200]!r}"
        )
    return Profile(
        name="vault",
        url=f"{address.rstrip('/')}/v1/auth/{quote(mount.strip('/'))}/login",
        audience=audience,
        assertion_field="jwt",
        fields={"role": role},
        is_form=False,
        headers={"X-Vault-Request": "true", **_given({"X-Vault-Namespace": namespace})},
        read=read_vault,
        needs_issuer=False,
        rule="the role: bound_audiences, bound_subject, bound_claims; and the auth method: its mount, bound_issuer, the keys that it takes",
    )


def aws_sts_profile(
    role_arn: str,
    session_name: str,
    *,
    region: str = "us-east-1",
    duration: timedelta | None = None,
    audience: str = "sts.amazonaws.com",
    url: str | None = None,
) -> Profile:
    """AssumeRoleWithWebIdentity of AWS; AccessKeyId, SecretAccessKey and SessionToken are in the token's `fields`.

    Args:
        duration: how long the credentials live; None means the default of AWS, one hour.
        url: None means the endpoint of the region.
    """
    _demand_text("aws_sts", region=region)
    if duration is not None:
        demand_duration(duration, field="aws_sts: duration")
    seconds = None if duration is None else f"{duration // timedelta(seconds=1)}"
    return Profile(
        name="aws_sts",
        url=f"https://sts.{region}.amazonaws.com/" if url is None else url,
        audience=audience,
        assertion_field="WebIdentityToken",
        fields={
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": role_arn,
            "RoleSessionName": session_name,
            **_given({"DurationSeconds": seconds}),
        },
        headers={"Accept": "application/json"},
        read=read_aws,
        longest_life=_LONGEST_AWS_LIFE if duration is None else duration,
        rule="the role's trust policy (sub, aud), and the audiences of the identity provider in IAM",
    )


def generic_profile(
    url: str,
    audience: str,
    *,
    grant: Literal["jwt-bearer", "token-exchange"] = "jwt-bearer",
    fields: Mapping[str, str] = MappingProxyType({}),
    needs_issuer: bool = True,
    default_life: timedelta | None = None,
) -> Profile:
    """A token endpoint that takes the `jwt-bearer` grant (RFC 7523) or a token exchange (RFC 8693), as a form.

    Args:
        fields: what it wants in addition, such as `scope` or `resource`.
        needs_issuer, default_life: as in Profile.

    Raises:
        ExchangeError: as Profile; the grant is unknown, or `fields` has a field of the grant.

    Source: RFC 7523 2.1, RFC 8693 2.1
    """
    if grant not in _GRANTS:
        raise ExchangeError(f"generic: grant: expected jwt-bearer or token-exchange, found {grant!r}")
    assertion_field, own = _GRANTS[grant]
    if taken := sorted(own.keys() & fields.keys()):
        raise ExchangeError(f"generic: field {taken[0]} is that of the grant")
    return Profile(
        name="generic",
        url=url,
        audience=audience,
        assertion_field=assertion_field,
        fields={**own, **fields},
        needs_issuer=needs_issuer,
        default_life=default_life,
    )


def _check_life(profile: str, life: timedelta | None) -> None:
    if life is None:
        return
    demand_duration(life, field=f"{profile}: default_life")
    if life <= timedelta():
        raise ExchangeError(f"{profile}: default_life: expected a positive time")


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _demand_text(profile: str, **arguments: object) -> None:
    """Refuse arguments that go into a URL and are empty, or no text."""
    for name, value in arguments.items():
        if not _is_text(value) or not str(value).strip():
            raise ExchangeError(
                f"{profile}: {name}: expected a text, found {'an empty one' if value == '' else repr(value)[:100]}"
            )


def _given(fields: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}
