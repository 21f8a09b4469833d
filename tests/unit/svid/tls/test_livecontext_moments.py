"""LiveContext at the last moments of what a peer shows, by a clock of the test's."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.ca import NOW, Draft, make_authority, make_leaf
from svid.bundle import Bundle
from svid.spiffeid import TrustDomain
from svid.tls.context import LiveContext
from svid.tls.refusals import HandshakeRefusedError
from svid.x509svid import X509SVID
from tests.doubles.clock import FakeClock
from tests.doubles.identity import Identity

ROOT = make_authority("authority-1")
LEAF, KEY = make_leaf(Draft(name="leaf", not_after=ROOT.certificate.not_valid_after_utc), ROOT)
PEER = [LEAF.public_bytes(Encoding.DER)]


def test_a_peer_is_admitted_to_the_last_of_its_seconds_where_its_authority_ends_with_it() -> None:
    """The last second counts whole: a leaf that was signed late ends when its authority does."""
    bundle = Bundle(trust_domain=TrustDomain("example.org"), x509_authorities=(ROOT.certificate,))
    own = X509SVID.parse(PEER[0], KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    clock = FakeClock(NOW)
    context = LiveContext(Identity(own, bundle), lambda _: True, server_side=True, clock=clock)
    end = LEAF.not_valid_after_utc
    for moment in (end - timedelta(seconds=1), end, end + timedelta(milliseconds=999)):
        clock.jump(moment - clock.now())
        for _ in range(2):
            assert context.admit(PEER) == own.spiffe_id
    clock.jump(end + timedelta(seconds=1) - clock.now())
    with pytest.raises(HandshakeRefusedError, match="not valid"):
        context.admit(PEER)
