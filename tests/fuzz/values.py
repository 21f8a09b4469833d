"""Fuzz targets for the values of svid: whatever the bytes, the outcome is a value or our error, and a value survives being written.

By hand, without end: `python -m tests.fuzz.values TARGET [libFuzzer options]`, for instance `jwt -max_total_time=600`. What it finds is
written to the working folder as crash-…; make a test of it.
"""

import base64
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["svid"]):
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from certs.ca import NOW
    from svid import jwtsvid, x509svid
    from svid.bundle import Bundle
    from svid.errors import SVIDError
    from svid.jwtsvid import JWTSVID
    from svid.selector import Selector
    from svid.spiffeid import SpiffeID, TrustDomain

_VECTORS = Path(__file__).resolve().parent.parent / "vectors"
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
    certificates = x509svid.certificates_from_der(data)
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
    """Parse and verify a token: the bytes as they stand, and as header and claims."""
    header, _, claims = data.partition(b"\n")
    parts = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims, b"\0" * 64))
    for token in (data.decode(errors="surrogateescape"), parts.decode()):
        with suppress(SVIDError):
            JWTSVID.parse_insecure(token)
        with suppress(SVIDError):
            jwtsvid.verify(token, lambda _: _TRUST, audience="connector", at=NOW)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "spiffe_id": spiffe_id,
    "selector": selector,
    "bundle": bundle,
    "chain": chain,
    "jwt": jwt,
}


def seeds(target: str) -> Iterator[bytes]:
    """Give what to begin with: the golden files."""
    match target:
        case "spiffe_id":
            yield from (b"spiffe://example.org/agent/concierge/reasoning", b"spiffe://127.0.0.1", b"spiffe://a/%2e")
        case "selector":
            yield from (b"unix:uid:1000", b"join_token:label:team:travel")
        case "bundle":
            yield from (path.read_bytes() for path in (_VECTORS / "bundle").glob("*.json"))
        case "chain":
            for path in (_VECTORS / "x509svid").glob("*.pem"):
                certificates = x509.load_pem_x509_certificates(path.read_bytes())
                yield b"".join(certificate.public_bytes(Encoding.DER) for certificate in certificates)
        case "jwt":
            yield b'{"alg":"ES256","kid":"authority-1"}\n{"sub":"spiffe://example.org/a","aud":["connector"],"exp":1}'
            yield from (path.read_bytes() for path in (_VECTORS / "jwtsvid").glob("*.jwt"))


def main(arguments: list[str]) -> None:
    """Run one target until libFuzzer's options say stop, or until something else than our error comes out."""
    program, name, *options = arguments
    target = TARGETS[name]

    def run(data: bytes) -> None:
        with suppress(SVIDError):
            target(data)

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(name)):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([program, *options, "-max_len=8192", corpus], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
