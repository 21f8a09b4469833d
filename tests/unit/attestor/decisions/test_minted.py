"""attestor/decisions/minted: by which name an SVID says who signed it."""

from dataclasses import replace
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attestor.decisions.minted import authority_of_x509
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import Authority

TD = TrustDomain("example.org")
WEB = SpiffeID(trust_domain=TD, path="/web")
HOUR = timedelta(hours=1)


def test_an_x509_svid_names_its_authority_by_the_key_identifier() -> None:
    authority, key = Authority(TD, FakeClock()), generate_private_key(KeyKind.EC_P256)
    leaf = authority.sign(WEB, key.public_key(), ttl=HOUR)
    svid = X509SVID(spiffe_id=WEB, chain=(leaf,), private_key=key)
    assert authority_of_x509(svid) == authority.key_id
    assert authority_of_x509(replace(svid, chain=(_without_identifier(),))) == ""


def _without_identifier() -> x509.Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), FakeClock().now()
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, now, now + HOUR)
    return builder.sign(key, hashes.SHA256())
