"""Whether verifiers accept what is below an authority that was certified by somebody else: its certificate, those above it, and the roots.

That the certificate fits what was asked for is checked in lint, which asks this.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from cognomen.protocol.moments import moment_in_words
from issuer.decisions.profile import CADraft
from svid.errors import SVIDError
from svid.x509svid import check_intermediate

__all__ = ["faults_for_verifiers"]

_MOST_ROOTS = 10
_UNDERSTOOD = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.SUBJECT_ALTERNATIVE_NAME}
)  # that may be critical
_LIMITING = frozenset(
    {ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.EXTENDED_KEY_USAGE, ExtensionOID.POLICY_CONSTRAINTS}
)  # that bound what an authority may sign


def faults_for_verifiers(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], draft: CADraft
) -> Iterator[str]:
    """Say what makes verifiers refuse every leaf of an authority, from the start of its life to its end.

    Args:
        chain: from the authority up to below its root, or with it.
    """
    yield from _faults_of_own(chain[0])
    if any(not one.subject for one in chain):
        yield "subject: empty"
    if len(roots) > _MOST_ROOTS:
        yield f"roots: too many, expected at most {_MOST_ROOTS}, found {len(roots)}"
        return
    for root in roots:
        try:
            check_intermediate(root, draft.trust_domain)
        except SVIDError as e:
            yield f"root: {e}"
            return
    for certificate in (*chain[1:], *roots):
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if begins > draft.not_before or ends < draft.not_after:
            yield (
                "validity: expected authorities above that are valid from"
                f" {draft.not_before} until {draft.not_after}, found one from {begins} until {ends}"
            )
            return
    for moment in (draft.not_before, draft.not_after):
        yield from _faults_of_path(chain, roots, moment)


def _faults_of_own(own: x509.Certificate) -> Iterator[str]:
    found = {one.oid for one in own.extensions}
    if ExtensionOID.SUBJECT_KEY_IDENTIFIER not in found:
        yield "subject key identifier: missing"
    for extension in own.extensions:
        if extension.oid in _LIMITING or (extension.critical and extension.oid not in _UNDERSTOOD):
            yield f"extension {extension.oid.dotted_string}: not allowed in an authority's certificate"


def _faults_of_path(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], moment: datetime
) -> Iterator[str]:
    """The authority's certificate in the place of a leaf: all above it is checked as verifiers do."""
    builder = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(moment.astimezone(UTC).replace(tzinfo=None))
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all())
    )
    try:
        builder.build_client_verifier().verify(chain[0], list(chain[1:]))
    except VerificationError as e:
        yield f"authority: verifiers refuse its chain at {moment_in_words(moment)}: {e}"
