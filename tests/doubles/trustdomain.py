"""A trust domain that signs whatever a test asks for, around the real time, because TLS reads the wall clock."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from certs.ca import CA_USAGE, Authority, Draft, make_authority, make_leaf, make_token
from svid.bundle import Bundle
from svid.clock import SystemClock
from svid.keys import private_key_to_der
from svid.spiffeid import TrustDomain
from svid.wire.pb import workload_pb2 as pb
from svid.x509svid import X509SVID
from tests.doubles.crls import Listed, make_crl

__all__ = ["TrustDomainDouble"]

_HOUR = timedelta(hours=1)


class TrustDomainDouble:
    """A trust domain with one authority; `rotate` adds another, `drop` takes the oldest out of the bundle.

    Its JWT authority has the key ID `authority-1`.
    """

    def __init__(self, name: str = "example.org", now: datetime | None = None) -> None:
        self.name = TrustDomain(name)
        self.now = now or SystemClock().now()
        self._made = 0
        self._authorities: list[Authority] = []
        self.rotate()

    def rotate(self) -> None:
        self._made += 1
        self._authorities.append(
            make_authority(self._authority(f"authority-{self._made}"), trust_domain=str(self.name))
        )

    def _authority(self, name: str) -> Draft:
        return Draft(
            name=name,
            uris=(f"spiffe://{self.name}",),
            subject=f"{self.name} {name}",
            san_critical=False,
            ca=True,
            usage=CA_USAGE,
            extended_usage=None,
            not_before=self.now - _HOUR,
            not_after=self.now + 24 * _HOUR,
        )

    def drop(self) -> None:
        del self._authorities[0]

    @property
    def bundle(self) -> Bundle:
        return Bundle(
            trust_domain=self.name,
            x509_authorities=tuple(authority.certificate for authority in self._authorities),
            jwt_authorities={"authority-1": self._authorities[0].key.public_key()},
        )

    def svid(
        self, path: str, *, lifetime: timedelta = _HOUR, hint: str = "", via_intermediate: bool = False
    ) -> X509SVID:
        """An X509-SVID, each of its own serial and key, signed by the newest authority."""
        self._made += 1
        signer = self._authorities[-1]
        chain = []
        if via_intermediate:
            draft = self._authority(f"intermediate-{self._made}")
            signer = make_authority(draft, trust_domain=str(self.name), issuer=signer)
            chain = [signer.certificate]
        draft = Draft(
            name=f"{self.name}{path} {self._made}",
            uris=(f"spiffe://{self.name}{path}",),
            not_before=self.now - _HOUR,
            not_after=self.now + lifetime,
        )
        leaf, key = make_leaf(draft, signer)
        return X509SVID.parse(
            b"".join(certificate.public_bytes(Encoding.DER) for certificate in [leaf, *chain]),
            private_key_to_der(key),
            hint=hint,
        )

    def token(
        self,
        path: str,
        *audiences: str,
        lifetime: timedelta = _HOUR,
        jti: str | None = None,
        issuer: str | None = None,
    ) -> str:
        """A JWT-SVID, with a name and an issuer of its own if it is given them."""
        claims: dict[str, object] = {} if jti is None else {"jti": jti}
        claims |= {} if issuer is None else {"iss": issuer}
        claims |= {
            "sub": f"spiffe://{self.name}{path}",
            "aud": list(audiences),
            "iat": int(self.now.timestamp()),
            "exp": int((self.now + lifetime).timestamp()),
        }
        return make_token(claims, self._authorities[0].key)

    def crl(self, *serials: int, number: int = 1, authority: int = -1) -> bytes:
        """A revocation list of these by an authority, the newest if none is named, DER."""
        listed = Listed(number=number, serials=serials, this_update=self.now, next_update=self.now + 24 * _HOUR)
        return make_crl(self._authorities[authority], listed)

    def answer(
        self, *svids: X509SVID, federated: "tuple[TrustDomainDouble, ...]" = (), crls: Sequence[bytes] = ()
    ) -> pb.X509SVIDResponse:
        """The Workload API's message that holds these SVIDs."""
        return pb.X509SVIDResponse(
            crl=crls,
            svids=[
                pb.X509SVID(
                    spiffe_id=str(svid.spiffe_id),
                    x509_svid=svid.chain_der(),
                    x509_svid_key=svid.key_der(),
                    bundle=self.bundle.x509_der(),
                    hint=svid.hint,
                )
                for svid in svids
            ],
            federated_bundles={f"spiffe://{other.name}": other.bundle.x509_der() for other in federated},
        )

    def jwt_answer(self) -> pb.JWTBundlesResponse:
        """The Workload API's message that holds this trust domain's JWT bundle."""
        return pb.JWTBundlesResponse(bundles={f"spiffe://{self.name}": self.bundle.jwt_jwks()})
