"""Conversion between the Workload API's messages and our values: the only module that knows both.

It decides which messages are usable, in either direction. attestor/decisions/update decides when to send one, and svid/workloadapi what a
client does with it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from google.protobuf import json_format

from svid.bundle import Bundle
from svid.crl import CRL
from svid.encoding import JSON
from svid.errors import BundleError, CRLError, JWTSVIDError, SVIDError, WorkloadAPIError, X509SVIDError
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID, TrustDomain
from svid.wire.pb import workload_pb2 as pb
from svid.x509svid import X509SVID

__all__ = [
    "ValidatedToken",
    "X509Context",
    "read_jwt_bundles",
    "read_jwt_svids",
    "read_validation",
    "read_x509_bundles",
    "read_x509_context",
    "write_jwt_bundles",
    "write_jwt_svids",
    "write_validation",
    "write_x509_bundles",
    "write_x509_context",
]

_Field = TypeVar("_Field")

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Context:
    """The X509-SVIDs of a workload, the default one first, and all bundles that it may check its peers with.

    Args:
        crls: the authorities' revocation lists; their signatures have not been checked (CRL.check).
    """

    svids: tuple[X509SVID, ...]
    bundles: Mapping[TrustDomain, Bundle]
    crls: tuple[CRL, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedToken:
    """The SPIFFE ID and claims of a token that the Workload API found valid; numbers in claims arrive as floats."""

    spiffe_id: SpiffeID
    claims: Mapping[str, JSON]


def read_x509_context(response: pb.X509SVIDResponse) -> X509Context:
    """Read an answer of FetchX509SVID; if two SVIDs have the same hint, the first counts.

    Unreadable foreign bundles and revocation lists are left out.

    Raises:
        WorkloadAPIError: a mandatory field is empty.
        SVIDError: an SVID or its bundle is invalid.

    Source: SPIFFE Workload API 4.4, 4.5, 5.2.1
    """
    _require("svids", response.svids)
    own: dict[TrustDomain, Bundle] = {}
    svids: list[X509SVID] = []
    hints: set[str] = set()
    for message in response.svids:
        for field in ("spiffe_id", "x509_svid", "x509_svid_key", "bundle"):
            _require(f"svids.{field}", getattr(message, field))
        if message.hint in hints:
            continue
        hints.update({message.hint} - {""})
        svid = X509SVID.parse(message.x509_svid, message.x509_svid_key, hint=message.hint)
        if str(svid.spiffe_id) != message.spiffe_id:
            raise X509SVIDError(f"svids.spiffe_id: expected the leaf's {svid.spiffe_id}, found {message.spiffe_id!r}")
        svids.append(svid)
        trust_domain = svid.spiffe_id.trust_domain
        if trust_domain not in own:
            own[trust_domain] = Bundle.from_der(trust_domain, message.bundle)
    return X509Context(
        svids=tuple(svids),
        bundles=MappingProxyType({**_bundles(response.federated_bundles, Bundle.from_der), **own}),
        crls=tuple(_crls(response.crl)),
    )


def read_x509_bundles(response: pb.X509BundlesResponse) -> Mapping[TrustDomain, Bundle]:
    """Read an answer of FetchX509Bundles; unreadable bundles are left out.

    Raises:
        WorkloadAPIError: there is no bundle at all.
        BundleError: there is no readable bundle.

    Source: SPIFFE Workload API 5.2.2
    """
    return _some_bundles(response.bundles, Bundle.from_der)


def read_jwt_bundles(response: pb.JWTBundlesResponse) -> Mapping[TrustDomain, Bundle]:
    """Read an answer of FetchJWTBundles; unreadable bundles are left out.

    Raises:
        WorkloadAPIError: there is no bundle at all.
        BundleError: there is no readable bundle.

    Source: SPIFFE Workload API 6.2.2
    """
    return _some_bundles(response.bundles, Bundle.from_jwt_jwks)


def read_jwt_svids(response: pb.JWTSVIDResponse) -> tuple[JWTSVID, ...]:
    """Read an answer of FetchJWTSVID, the default identity's token first; if two tokens have the same hint, the first counts.

    Raises:
        WorkloadAPIError: a mandatory field is empty.
        JWTSVIDError: a token is invalid, or belongs to a different identity.

    Source: SPIFFE Workload API 6.2.1
    """
    _require("svids", response.svids)
    svids: list[JWTSVID] = []
    hints: set[str] = set()
    for message in response.svids:
        _require("svids.spiffe_id", message.spiffe_id)
        _require("svids.svid", message.svid)
        if message.hint in hints:
            continue
        hints.update({message.hint} - {""})
        svid = JWTSVID.parse_insecure(message.svid, hint=message.hint)
        if str(svid.spiffe_id) != message.spiffe_id:
            raise JWTSVIDError(f"svids.spiffe_id: expected the token's {svid.spiffe_id}, found {message.spiffe_id!r}")
        svids.append(svid)
    return tuple(svids)


def read_validation(response: pb.ValidateJWTSVIDResponse) -> ValidatedToken:
    """Read an answer of ValidateJWTSVID.

    Raises:
        WorkloadAPIError: a mandatory field is empty, or a claim is a number that JSON does not have: NaN, or infinity.
        SpiffeIDError: the ID is invalid.

    Source: SPIFFE Workload API 6.2.3
    """
    _require("spiffe_id", response.spiffe_id)
    _require("claims", response.claims.fields)
    try:
        claims: dict[str, JSON] = json_format.MessageToDict(response.claims)
    except (json_format.Error, ValueError) as e:
        raise WorkloadAPIError("claims: expected only finite numbers", code="OK") from e
    return ValidatedToken(spiffe_id=SpiffeID.parse(response.spiffe_id), claims=MappingProxyType(claims))


def write_x509_context(context: X509Context) -> pb.X509SVIDResponse:
    """Write an answer of FetchX509SVID; foreign bundles without an X.509 authority are left out.

    Raises:
        WorkloadAPIError: a mandatory field would be empty.

    Source: SPIFFE Workload API 5.2.1
    """
    _require("svids", context.svids)
    own = {svid.spiffe_id.trust_domain for svid in context.svids}
    return pb.X509SVIDResponse(
        svids=[
            pb.X509SVID(
                spiffe_id=str(svid.spiffe_id),
                x509_svid=_required("svids.x509_svid", svid.chain_der()),
                x509_svid_key=svid.key_der(),
                bundle=_own_bundle(context.bundles, svid.spiffe_id.trust_domain).x509_der(),
                hint=svid.hint,
            )
            for svid in context.svids
        ],
        crl=[crl.der for crl in context.crls],
        federated_bundles=_x509_bundles(bundle for name, bundle in context.bundles.items() if name not in own),
    )


def write_x509_bundles(bundles: Mapping[TrustDomain, Bundle], *, crls: Iterable[CRL] = ()) -> pb.X509BundlesResponse:
    """Write an answer of FetchX509Bundles; bundles without an X.509 authority are left out, because some clients give up for good on one.

    Raises:
        WorkloadAPIError: no bundle is left.

    Source: SPIFFE Workload API 5.2.2, Trust Domain and Bundle 4.1.3
    """
    documents = _required("bundles", _x509_bundles(bundles.values()))
    return pb.X509BundlesResponse(bundles=documents, crl=[crl.der for crl in crls])


def write_jwt_svids(svids: Iterable[tuple[SpiffeID, str, str]]) -> pb.JWTSVIDResponse:
    """Write an answer of FetchJWTSVID.

    Shape: SPIFFE ID, token and hint, the default identity first.

    Raises:
        WorkloadAPIError: a mandatory field would be empty.

    Source: SPIFFE Workload API 6.2.1
    """
    messages = [
        pb.JWTSVID(spiffe_id=str(spiffe_id), svid=_required("svids.svid", token), hint=hint)
        for spiffe_id, token, hint in svids
    ]
    return pb.JWTSVIDResponse(svids=_required("svids", messages))


def write_jwt_bundles(bundles: Mapping[TrustDomain, Bundle]) -> pb.JWTBundlesResponse:
    """Write an answer of FetchJWTBundles: JWK Sets with only the keys that sign JWT-SVIDs.

    Raises:
        WorkloadAPIError: no bundle is given.

    Source: SPIFFE Workload API 6.2.2
    """
    documents = {str(bundle.trust_domain.id): bundle.jwt_jwks() for bundle in bundles.values()}
    return pb.JWTBundlesResponse(bundles=_required("bundles", documents))


def write_validation(svid: JWTSVID) -> pb.ValidateJWTSVIDResponse:
    """Write an answer of ValidateJWTSVID: all claims, with the audiences always as a list.

    Source: SPIFFE Workload API 6.2.3
    """
    response = pb.ValidateJWTSVIDResponse(spiffe_id=str(svid.spiffe_id))
    response.claims.update({**svid.claims, "aud": list(svid.audiences)})
    return response


def _x509_bundles(bundles: Iterable[Bundle]) -> dict[str, bytes]:
    return {str(bundle.trust_domain.id): bundle.x509_der() for bundle in bundles if bundle.x509_authorities}


def _own_bundle(bundles: Mapping[TrustDomain, Bundle], trust_domain: TrustDomain) -> Bundle:
    bundle = bundles.get(trust_domain)
    if bundle is None or not bundle.x509_authorities:
        raise WorkloadAPIError(
            f"bundle: expected an X.509 authority of {trust_domain}, found none", code="OK", clause="Workload API 4.5"
        )
    return bundle


def _required(field: str, value: _Field) -> _Field:
    _require(field, value)
    return value


def _require(field: str, value: object) -> None:
    if not value:
        raise WorkloadAPIError(f"{field}: missing or empty", code="OK", clause="Workload API 4.5")


def _some_bundles(
    found: Mapping[str, bytes], read: Callable[[TrustDomain, bytes], Bundle]
) -> Mapping[TrustDomain, Bundle]:
    _require("bundles", found)
    bundles = _bundles(found, read)
    if not bundles:
        raise BundleError("bundles: none of them is readable", clause="Workload API 4.5")
    return MappingProxyType(bundles)


def _crls(found: Iterable[bytes]) -> Iterator[CRL]:
    """Read revocation lists; a broken list must not prevent the renewal of an identity."""
    for document in found:
        try:
            yield CRL.from_der(document)
        except CRLError as e:
            _log.warning("revocation list left out", extra={"reason": str(e)})


def _bundles(found: Mapping[str, bytes], read: Callable[[TrustDomain, bytes], Bundle]) -> dict[TrustDomain, Bundle]:
    """Read bundles by trust domain; a broken bundle must not prevent the renewal of an identity."""
    bundles: dict[TrustDomain, Bundle] = {}
    for key, document in found.items():
        try:
            trust_domain = TrustDomain.parse(key)
            bundles[trust_domain] = read(trust_domain, document)
        except SVIDError as e:
            _log.warning("bundle left out", extra={"trust_domain": key, "reason": str(e)})
    return bundles
