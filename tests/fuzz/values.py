"""Fuzz targets for the values of svid and for its half of the Workload API; a value that is read survives being written."""

import base64
from collections.abc import Iterator
from contextlib import suppress

import atheris

from tests.doubles.project import ROOT

with atheris.instrument_imports(include=["svid"]):
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from certs.ca import NOW, make_authority
    from cognomen.protocol.selector import Selector
    from svid import encoding, jwtsvid, x509svid
    from svid.bundle import Bundle
    from svid.crl import CRL
    from svid.denials import SERIAL_BYTES
    from svid.errors import SVIDError
    from svid.integrations import exchange_answers
    from svid.jwtsvid import JWTSVID
    from svid.spiffeid import SpiffeID, TrustDomain
    from svid.wire import denials, workload
    from svid.wire.pb import denials_pb2
    from svid.wire.pb import workload_pb2 as pb

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from tests.doubles.crls import Listed, make_crl
from tests.fuzz.engine import Target, main

_VECTORS = ROOT / "tests" / "vectors"
_TRUST_DOMAIN = TrustDomain("example.org")
_TRUST = Bundle.from_jwks(_TRUST_DOMAIN, (_VECTORS / "trust" / "example.org.json").read_bytes())


def spiffe_id(data: bytes) -> None:
    """Parse an ID: it is written as it was read."""
    text = data.decode(errors="surrogateescape")
    if str(SpiffeID.parse(text)) != text:
        raise AssertionError(text)


def selector(data: bytes) -> None:
    """Parse a selector: it is written as it was read."""
    text = data.decode(errors="surrogateescape")
    if str(Selector.parse(text)) != text:
        raise AssertionError(text)


def bundle(data: bytes) -> None:
    """Parse a bundle document in each of its forms: what is read survives being written."""
    for parse in (Bundle.from_jwt_jwks, Bundle.from_der, Bundle.from_pem):
        with suppress(SVIDError):
            parse(_TRUST_DOMAIN, data)
    read = Bundle.from_jwks(_TRUST_DOMAIN, data)
    if Bundle.from_jwks(_TRUST_DOMAIN, read.to_jwks()) != read:
        raise AssertionError(data)


def chain(data: bytes) -> None:
    """Parse, lint and verify a chain."""
    certificates = encoding.certificates_from_der(data)
    for certificate in certificates:
        for check in (_check_leaf, _check_signing):
            with suppress(SVIDError):
                check(certificate)
    x509svid.verify(certificates, _TRUST, at=NOW)


def _check_leaf(certificate: x509.Certificate) -> None:
    x509svid.check_leaf(certificate)


def _check_signing(certificate: x509.Certificate) -> None:
    x509svid.check_signing(certificate, _TRUST_DOMAIN)


def jwt(data: bytes) -> None:
    """Parse and verify a token: the bytes as they stand, and as header and claims; what is parsed can be told of."""
    header, _, claims = data.partition(b"\n")
    parts = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims, b"\0" * 64))
    for token in (data.decode(errors="surrogateescape"), parts.decode()):
        with suppress(SVIDError):
            _tell(JWTSVID.parse_insecure(token))
        with suppress(SVIDError):
            jwtsvid.verify(token, lambda _: _TRUST, audience="connector", at=NOW)


def _tell(svid: JWTSVID) -> None:
    told = workload.write_validation(svid).SerializeToString()
    if workload.read_validation(pb.ValidateJWTSVIDResponse.FromString(told)).claims.keys() != svid.claims.keys():
        raise AssertionError(svid.claims)


def crl(data: bytes) -> None:
    """Parse and check a list of certificates that ended."""
    CRL.from_der(data).check(_TRUST, at=NOW)


def messages(data: bytes) -> None:
    """Read each message that the Workload API, or the Denials service beside it, may send us."""
    for read in (
        lambda: workload.read_x509_context(pb.X509SVIDResponse.FromString(data)),
        lambda: workload.read_x509_bundles(pb.X509BundlesResponse.FromString(data)),
        lambda: workload.read_jwt_bundles(pb.JWTBundlesResponse.FromString(data)),
        lambda: workload.read_jwt_svids(pb.JWTSVIDResponse.FromString(data)),
        lambda: workload.read_validation(pb.ValidateJWTSVIDResponse.FromString(data)),
        lambda: denials.write_denied(denials.read_denied(denials_pb2.Denied.FromString(data))),
        lambda: denials.write_enforced(denials.read_enforced(denials_pb2.EnforcedRequest.FromString(data))),
    ):
        with suppress(SVIDError, DecodeError):
            read()


def answers(data: bytes) -> None:
    """Read an answer of a provider in each of its forms, and show what may be shown: never a part of the answer's token."""
    for text in exchange_answers.refusal(data):
        exchange_answers.shown(text, ("eyJhbGciOiJFUzI1NiJ9",)).encode()
    for read in (exchange_answers.read_oauth, exchange_answers.read_vault, exchange_answers.read_aws):
        with suppress(ValueError):
            if (answer := read(data)).value in repr(answer) and len(answer.value) > _LONG:
                raise AssertionError(data)


def _chains() -> Iterator[bytes]:
    for path in (_VECTORS / "x509svid").glob("*.pem"):
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
        yield b"".join(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def _tokens() -> Iterator[bytes]:
    yield b'{"alg":"ES256"}\n{"sub":"spiffe://a/b","aud":"c","exp":1,"d":[{"e":-1e308,"\\ud83d\\ude00":"\\u0000"}]}'
    yield b'{"alg":"ES256","kid":"authority-1"}\n{"sub":"spiffe://example.org/a","aud":["connector"],"exp":1}'
    yield from (path.read_bytes() for path in (_VECTORS / "jwtsvid").glob("*.jwt"))


def _messages() -> Iterator[bytes]:
    for chain_der in _chains():
        svid = pb.X509SVID(
            spiffe_id="spiffe://example.org/a", x509_svid=chain_der, x509_svid_key=b"k", bundle=chain_der
        )
        yield pb.X509SVIDResponse(svids=[svid]).SerializeToString()
    yield pb.X509BundlesResponse(bundles={"spiffe://example.org": _TRUST.x509_der()}).SerializeToString()
    yield pb.JWTBundlesResponse(bundles={"spiffe://example.org": _TRUST.jwt_jwks()}).SerializeToString()
    epoch = denials_pb2.Epoch(incarnation="1", number=1)
    numbers = bytes(2 * SERIAL_BYTES)
    yield denials_pb2.Denied(
        trust_domain="example.org", epoch=epoch, numbers=numbers, ends=[1, 2], age=Duration(seconds=1)
    ).SerializeToString()
    yield denials_pb2.EnforcedRequest(epoch=epoch, point="a").SerializeToString()


def _crls() -> Iterator[bytes]:
    reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
    for of_entries in ((), ((reason, False),), ((x509.CertificateIssuer([x509.DNSName("a")]), True),)):
        yield make_crl(make_authority("authority-1"), Listed(serials=(1, 2**127), of_entries=of_entries))


_LONG = 40  # no other part of the text is as long
_ANSWERS = (
    b'{"access_token":"a","token_type":"Bearer","expires_in":60}',
    b'{"auth":{"client_token":"a","lease_duration":60}}',
    b'{"error":"invalid_grant","error_description":"eyJhbGciOiJFUzI1NiJ9"}',
    b'{"error":{"type":"a","message":"b"},"errors":["c"]}',
    (
        b'<a xmlns="b"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>a</AccessKeyId><SecretAccessKey>b</SecretAccessKey>'
        b"<SessionToken>c</SessionToken><Expiration>2026-01-01T00:00:00Z</Expiration></Credentials>"
        b"</AssumeRoleWithWebIdentityResult><Error><Code>d</Code></Error></a>"
    ),
)
_IDS = (b"spiffe://example.org/agent/concierge/reasoning", b"spiffe://127.0.0.1", b"spiffe://a/%2e")
_SELECTORS = (b"unix:uid:1000", b"join_token:label:team:travel")

TARGETS = {
    "spiffe_id": Target(run=spiffe_id, seeds=_IDS, answers=(SVIDError,)),
    "selector": Target(run=selector, seeds=_SELECTORS, answers=(SVIDError,)),
    "bundle": Target(
        run=bundle, seeds=(path.read_bytes() for path in (_VECTORS / "bundle").glob("*.json")), answers=(SVIDError,)
    ),
    "chain": Target(run=chain, seeds=_chains(), answers=(SVIDError,)),
    "crl": Target(run=crl, seeds=_crls(), answers=(SVIDError,)),
    "jwt": Target(run=jwt, seeds=_tokens(), answers=(SVIDError,)),
    "answers": Target(run=answers, seeds=_ANSWERS, answers=()),
    "messages": Target(run=messages, seeds=_messages(), answers=()),
}

if __name__ == "__main__":
    main(TARGETS)
