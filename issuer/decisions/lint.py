"""Check drafts before they are recorded, and certificates, lists and tokens before they are released.

A fault found here is ours: a decision before this or a key beneath it went wrong. Only the certificate of an authority comes from
somebody else, the upstream authority, and so does its fault. profile decides what a draft looks like.
"""

import base64
import binascii
import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from cognomen.protocol.entry import MAX_TTL
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import is_issuer, is_reserved, node_id_of
from cognomen.protocol.validity import BACKDATE
from issuer.decisions.authority import Authority
from issuer.decisions.authoritypath import faults_for_verifiers
from issuer.decisions.crl import MOST_LISTED, CRLDraft, SignedCRL, reason_flag
from issuer.decisions.profile import ISSUER_DNS_NAME, CADraft, Draft, JWTDraft, X509Draft, claims_of, common_name
from svid.crl import CRL
from svid.encoding import MAX_CHAIN_LENGTH
from svid.errors import SVIDError
from svid.keys import KeyID, PublicKey, certified_key
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import check_intermediate, check_profile, check_signing

__all__ = ["lint_ca", "lint_crl_der", "lint_crl_draft", "lint_draft", "lint_token", "lint_x509_der"]

_MIN_SERIAL_BITS = 64
_MAX_SERIAL_BITS = 159  # 20 octets, the first bit 0
_AFTER_KEY = b"\xa3"  # the extensions; a key before them is the certificate's own
_EMPTY_NAME = b"\x30\x00"


def lint_draft(draft: Draft, *, trust_domain: TrustDomain, authority: Authority, now: datetime) -> None:
    """Check a draft before it goes into the ledger.

    Raises:
        Refused: INTERNAL
    """
    match draft:
        case X509Draft():
            faults = _faults_of_x509_draft(draft, trust_domain, authority, now)
        case JWTDraft():
            faults = _faults_of_jwt_draft(draft, trust_domain, authority, now)
        case CADraft():
            faults = _faults_of_ca_draft(draft, trust_domain, authority)
    _fail_on(faults)


def _faults_of_x509_draft(
    draft: X509Draft, trust_domain: TrustDomain, authority: Authority, now: datetime
) -> Iterator[str]:
    yield from _faults_of_id(draft.spiffe_id, trust_domain)
    yield from _faults_of_serial(draft.serial)
    if (ISSUER_DNS_NAME in draft.dns_names) is not is_issuer(draft.spiffe_id):
        yield f"dns_names: expected {ISSUER_DNS_NAME} in the issuer's own SVID only, found {draft.dns_names}"
    if draft.not_before.microsecond or draft.not_after.microsecond:
        yield "validity: expected whole seconds"
    if not draft.not_before <= now < draft.not_after:
        yield f"validity: expected {now.isoformat()} within, found {draft.not_before} to {draft.not_after}"
    if draft.not_after - draft.not_before > MAX_TTL + 2 * BACKDATE:
        yield f"validity: expected at most {MAX_TTL}, found {draft.not_after - draft.not_before}"
    if draft.not_after > authority.not_after:
        yield f"not_after: expected at most the authority's {authority.not_after}, found {draft.not_after}"


def _faults_of_jwt_draft(
    draft: JWTDraft, trust_domain: TrustDomain, authority: Authority, now: datetime
) -> Iterator[str]:
    yield from _faults_of_id(draft.spiffe_id, trust_domain)
    if not draft.audiences or not all(draft.audiences):
        yield f"audiences: expected one or more, none empty, found {len(draft.audiences)}"
    if not draft.jti:
        yield "jti: expected a text, found none"
    if draft.issued_at.microsecond or draft.not_after.microsecond:
        yield "validity: expected whole seconds"
    if not draft.issued_at <= now < draft.not_after:
        yield f"validity: expected {now.isoformat()} within, found {draft.issued_at} to {draft.not_after}"
    if draft.not_after - draft.issued_at > MAX_TTL + BACKDATE:
        yield f"validity: expected at most {MAX_TTL}, found {draft.not_after - draft.issued_at}"
    if draft.not_after > authority.not_after:
        yield f"not_after: expected at most the authority's {authority.not_after}, found {draft.not_after}"


def _faults_of_ca_draft(draft: CADraft, trust_domain: TrustDomain, authority: Authority) -> Iterator[str]:
    if draft.trust_domain != trust_domain:
        yield f"SPIFFE ID: expected the trust domain {trust_domain}, found {draft.trust_domain}"
    yield from _faults_of_serial(draft.serial)
    if (draft.not_before, draft.not_after) != (authority.not_before, authority.not_after):
        yield f"validity: expected the authority's own, found {draft.not_before} to {draft.not_after}"


def lint_crl_draft(draft: CRLDraft, *, last: SignedCRL | None, authority: Authority, now: datetime) -> None:
    """Check a revocation list before its number is used up.

    Args:
        last: the authority's previous list.

    Raises:
        Refused: INTERNAL
    """
    _fail_on(_faults_of_crl_draft(draft, last, authority, now))


def _faults_of_crl_draft(draft: CRLDraft, last: SignedCRL | None, authority: Authority, now: datetime) -> Iterator[str]:
    if last is not None and draft.number <= last.number:
        yield f"CRL number: expected more than {last.number}, found {draft.number}"
    if draft.this_update.microsecond or draft.this_update > now:
        yield f"thisUpdate: expected a whole second until {now.isoformat()}, found {draft.this_update.isoformat()}"
    if draft.next_update != authority.not_after:
        yield f"nextUpdate: expected the authority's end {authority.not_after}, found {draft.next_update}"
    if len(draft.denied) > MOST_LISTED:
        yield f"entries: expected at most {MOST_LISTED}, found {len(draft.denied)}"
    serials = [one.serial for one in draft.denied]
    if any(following <= before for before, following in itertools.pairwise(serials)):
        yield "entries: expected each serial once, in order"


def _faults_of_serial(serial: int) -> Iterator[str]:
    bits = serial.bit_length()
    if serial <= 0 or not _MIN_SERIAL_BITS <= bits <= _MAX_SERIAL_BITS:
        yield f"serial: expected {_MIN_SERIAL_BITS} to {_MAX_SERIAL_BITS} bits, found {bits}"


def _faults_of_id(spiffe_id: SpiffeID, trust_domain: TrustDomain) -> Iterator[str]:
    if not spiffe_id.is_member_of(trust_domain):
        yield f"SPIFFE ID: expected the trust domain {trust_domain}, found {spiffe_id.trust_domain}"
    if not spiffe_id.path:
        yield "SPIFFE ID: expected a path, found none"
    if is_reserved(spiffe_id) and not is_issuer(spiffe_id) and node_id_of(spiffe_id) is None:
        yield f"SPIFFE ID: expected no reserved path, found {spiffe_id.path}"


def lint_x509_der(der: bytes, draft: X509Draft, *, authority_name: x509.Name, authority_ski: bytes) -> None:
    """Check that a signed X509-SVID fits the SPIFFE profile, equals the draft, and is from the right authority.

    We do not verify the signature, which would cost as much as signing; signing proved that the key fits the certificate.

    Raises:
        Refused: INTERNAL
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        spiffe_id = check_profile(certificate)
    except (SVIDError, ValueError) as e:
        raise _failed(str(e)) from e
    _fail_on(_faults_of_certificate(certificate, der, draft, authority_name, authority_ski))
    if spiffe_id != draft.spiffe_id:
        raise _failed(f"SPIFFE ID: expected {draft.spiffe_id}, found {spiffe_id}")


def _faults_of_certificate(
    certificate: x509.Certificate,
    der: bytes,
    draft: X509Draft,
    authority_name: x509.Name,
    authority_ski: bytes,
) -> Iterator[str]:
    if certificate.serial_number != draft.serial:
        yield f"serial: expected {draft.serial:x}, found {certificate.serial_number:x}"
    name = common_name(draft)
    if (b"" if name else _EMPTY_NAME) + draft.public_key + _AFTER_KEY not in der:
        yield "public key: not the drafted one"
    if certificate.not_valid_before_utc != draft.not_before or certificate.not_valid_after_utc != draft.not_after:
        yield f"validity: expected {draft.not_before} to {draft.not_after}, found other times"
    if name and certificate.subject != x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]):
        yield f"subject: expected CN={name} alone, found {certificate.subject.rfc4514_string()}"
    if certificate.issuer != authority_name:
        yield f"issuer: expected {authority_name.rfc4514_string()}, found {certificate.issuer.rfc4514_string()}"
    yield from _faults_of_extensions(certificate.extensions, draft, authority_ski)


def _faults_of_extensions(extensions: x509.Extensions, draft: X509Draft, authority_ski: bytes) -> Iterator[str]:
    """What the profile leaves open. This goes by type: get_extension_for_class costs half as much as a signature."""
    identifier: bytes | None = None
    names: tuple[str, ...] = ()
    for extension in extensions:
        value = extension.value
        if type(value) is x509.AuthorityKeyIdentifier:
            identifier = value.key_identifier
        elif type(value) is x509.SubjectAlternativeName:
            names = tuple(name.value for name in value if type(name) is x509.DNSName)
    if identifier != authority_ski:
        yield "authority key identifier: not the authority's"
    if names != draft.dns_names:
        yield f"dns_names: expected {draft.dns_names}, found {names}"


def lint_ca(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], draft: CADraft, *, key: PublicKey
) -> None:
    """Check that an authority's certificate, no matter who signed it, fits the SPIFFE profile, equals the draft, and leads to a root.

    Raises:
        Refused: UNAVAILABLE, because the upstream authority may sign a better one next time.
    """
    if found := "; ".join(_faults_of_ca(chain, roots, draft, key)):
        raise Refused(
            Kind.UNAVAILABLE,
            f"upstream authority: lint: {found}",
            hint="nothing was released; the upstream authority must sign what was asked for"
            " (if it is self_signed, this is a bug in the issuer, please report it)",
        )


def _faults_of_ca(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], draft: CADraft, key: PublicKey
) -> Iterator[str]:
    if not chain or not roots:
        yield f"authority: expected a certificate and a root, found {len(chain)} and {len(roots)}"
        return
    own = chain[0]
    try:
        check_signing(own, draft.trust_domain)
        for certificate in chain[1:]:
            check_intermediate(certificate, draft.trust_domain)
        for certificate in roots:
            certified_key(certificate)
    except SVIDError as e:
        yield f"authority: {e}"
        return
    if not all(_is_issued_by(one, above) for one, above in itertools.pairwise(chain)):
        yield "authority: a certificate is not signed by the next one"
    root = next((root for root in roots if _is_issued_by(chain[-1], root)), None)
    if root is None:
        yield "authority: the chain does not lead to its root"
    else:
        yield from _faults_of_path([*chain, *({root} - {chain[-1]})])
        yield from faults_for_verifiers(chain, roots, draft)
    if own.public_key() != key:
        yield "public key: not the authority's"
    if own.serial_number != draft.serial:
        yield f"serial: expected {draft.serial:x}, found {own.serial_number:x}"
    if own.not_valid_before_utc != draft.not_before or own.not_valid_after_utc != draft.not_after:
        yield f"validity: expected {draft.not_before} to {draft.not_after}, found other times"


def _faults_of_path(path: Sequence[x509.Certificate]) -> Iterator[str]:
    """What makes verifiers refuse every leaf below, even if every signature is right; the path ends with the root."""
    if len(path) > MAX_CHAIN_LENGTH:
        yield f"chain: expected at most {MAX_CHAIN_LENGTH} certificates with the root, found {len(path)}"
    for below, certificate in enumerate(path):
        allowed = _path_length(certificate)
        if allowed is not None and allowed < below:
            yield f"path length: expected room for {below} authorities, found {allowed}"


def _path_length(certificate: x509.Certificate) -> int | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    except x509.ExtensionNotFound:
        return None


def _is_issued_by(certificate: x509.Certificate, above: x509.Certificate) -> bool:
    """Whether that key signed it, with a hash that verifiers accept; they do not accept SHA-1 and SHA-224."""
    try:
        certificate.verify_directly_issued_by(above)
        hashed = certificate.signature_hash_algorithm
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return isinstance(hashed, hashes.SHA256 | hashes.SHA384 | hashes.SHA512)


def lint_crl_der(der: bytes, draft: CRLDraft, *, authority_name: x509.Name, authority_ski: bytes) -> None:
    """Check that verifiers can read a signed revocation list, and that it equals the draft, entry by entry.

    We do not verify the signature, as in lint_x509_der.

    Raises:
        Refused: INTERNAL
    """
    try:
        crl = CRL.from_der(der)
    except SVIDError as e:
        raise _failed(str(e)) from e
    _fail_on(_faults_of_crl(crl, draft, authority_name, authority_ski))


def _faults_of_crl(crl: CRL, draft: CRLDraft, authority_name: x509.Name, authority_ski: bytes) -> Iterator[str]:
    if (crl.number, crl.this_update, crl.next_update) != (draft.number, draft.this_update, draft.next_update):
        yield f"CRL: expected the number {draft.number} and the drafted times, found {crl.number} or other times"
    if crl.issuer != authority_name or crl.authority_key_id != authority_ski:
        yield f"issuer: expected {authority_name.rfc4514_string()}, found {crl.issuer.rfc4514_string()}"
    drafted = ((one.serial, one.denied_at.replace(microsecond=0), reason_flag(one.reason)) for one in draft.denied)
    if any(one != other for one, other in itertools.zip_longest(crl.entries(), drafted)):
        yield "entries: not the drafted ones"


def lint_token(token: str, draft: JWTDraft, *, algorithm: str, key_id: KeyID) -> None:
    """Check that a signed JWT-SVID has exactly our header and exactly the draft's claims.

    Raises:
        Refused: INTERNAL
    """
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - header, claims, signature
        raise _failed(f"token: expected three parts, found {len(parts)}")
    try:
        header, claims = (json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in parts[:2])
    except (binascii.Error, ValueError) as e:
        raise _failed("token: expected base64url of JSON") from e
    if header != {"alg": algorithm, "kid": key_id, "typ": "JWT"}:
        raise _failed(f"header: expected alg {algorithm}, kid {key_id}, typ JWT, found {header}")
    if claims != claims_of(draft):
        raise _failed("claims: not the drafted ones")


def _fail_on(faults: Iterator[str]) -> None:
    found = "; ".join(faults)
    if found:
        raise _failed(found)


def _failed(what: str) -> Refused:
    return Refused(
        Kind.INTERNAL, f"lint: {what}", hint="nothing was released; this is a bug in the issuer, please report it"
    )
