"""The invite: what is refused as one, and which of its addresses lead nowhere from another machine."""

import base64
import json
from dataclasses import replace

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from svid.bundle import Bundle
from tests.doubles.issuer_values import TRUST_DOMAIN

INVITE = Invite(
    trust_domain=TRUST_DOMAIN,
    join_address="issuer.example.org:8444",
    node_address="issuer.example.org:8443",
    token="t",  # noqa: S106 - of nobody
    bundle=Bundle(trust_domain=TRUST_DOMAIN),
)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8443", "127.8.0.1:1", "[::1]:8443", "localhost:8443", "LocalHost:1", "a.localhost:1"]
)
def test_an_address_of_loopback_leads_nowhere_from_another_machine(address: str) -> None:
    assert replace(INVITE, node_address=address).loopback_addresses == (address,)
    assert replace(INVITE, join_address=address).loopback_addresses == (address,)


@pytest.mark.parametrize("address", ["10.0.0.1:8443", "[fe80::1]:8443", "localhost.example.org:8443", "issuer:8443"])
def test_any_other_address_may_be_reached(address: str) -> None:
    assert not replace(INVITE, node_address=address, join_address=address).loopback_addresses


@pytest.mark.parametrize("key", ["trust_domain", "join_address", "node_address", "token"])
@pytest.mark.parametrize("value", ["", "\ud800", "a\0", "a\n", "\x1b[2J", 1, None, []])
def test_a_field_that_is_no_text_or_that_nobody_could_encode_is_refused(key: str, value: object) -> None:
    prefix, _, encoded = str(INVITE).rpartition(".")
    document = json.loads(base64.urlsafe_b64decode(encoded + "=="))
    assert Invite.parse(str(INVITE)) == INVITE
    changed = base64.urlsafe_b64encode(json.dumps(document | {key: value}).encode()).decode()
    with pytest.raises(Refused, match="expected every field but the bundle to be a printable string") as refused:
        Invite.parse(f"{prefix}.{changed}")
    assert refused.value.kind is Kind.INVALID
