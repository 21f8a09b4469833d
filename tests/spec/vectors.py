"""Reading the golden files, and judging each as a validator of the trust domain example.org does at the moment NOW."""

import json
from dataclasses import dataclass

from cryptography import x509

from certs.ca import NOW
from svid import jwtsvid, x509svid
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.project import ROOT

__all__ = ["TRUST", "TRUST_DOMAIN", "Vector", "all_vectors", "read_bundle", "refusal", "verify_chain", "verify_token"]

_FOLDER = ROOT / "tests" / "vectors"
TRUST_DOMAIN = TrustDomain("example.org")
TRUST = Bundle.from_jwks(TRUST_DOMAIN, (_FOLDER / "trust" / "example.org.json").read_bytes())


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One golden file and what has to become of it."""

    kind: str
    name: str
    refused_by: str | None


def all_vectors() -> list[Vector]:
    """List every golden file, from the indexes."""
    vectors = []
    for index in sorted(_FOLDER.glob("*/index.json")):
        rows = json.loads(index.read_bytes())["vectors"]
        kind = index.parent.name
        vectors += [Vector(kind=kind, name=row["file"].split(".")[0], refused_by=row["refused_by"]) for row in rows]
    return vectors


def verify_chain(name: str) -> SpiffeID:
    """Verify the X509-SVID of that name."""
    pem = (_FOLDER / "x509svid" / f"{name}.pem").read_bytes()
    return x509svid.verify(x509.load_pem_x509_certificates(pem), TRUST, at=NOW)


def verify_token(name: str) -> JWTSVID:
    """Verify the JWT-SVID of that name, for the audience `connector`."""
    token = (_FOLDER / "jwtsvid" / f"{name}.jwt").read_text()
    trust = {TRUST_DOMAIN: TRUST}
    return jwtsvid.verify(token, trust.get, audience="connector", at=NOW)


def read_bundle(name: str) -> Bundle:
    """Parse the bundle document of that name."""
    return Bundle.from_jwks(TRUST_DOMAIN, (_FOLDER / "bundle" / f"{name}.json").read_bytes())


def refusal(kind: str, name: str) -> str | None:
    """Judge a golden file: the clause that refuses it, None where it is accepted."""
    judge = {"x509svid": verify_chain, "jwtsvid": verify_token, "bundle": read_bundle}[kind]
    try:
        judge(name)
    except SVIDError as e:
        return e.clause
    return None
