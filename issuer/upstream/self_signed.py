"""No upstream authority: each signing key vouches for itself, and its certificate is a root in the bundle.

issuer/decisions/authority and profile decide when a key is certified, and for how long.
"""

from cryptography import x509
from cryptography.x509.oid import NameOID

from cognomen.daemon.plugins import NoSettings, Plugin, PluginContext
from issuer.decisions.profile import CADraft
from issuer.upstream.port import SignedCA
from svid.keys import SigningKey, as_private_key, hash_of

__all__ = ["PLUGIN", "SelfSigned"]


class SelfSigned:
    """Signs each key's certificate with that key."""

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        """Have this key certify itself; the certificate is both chain and root.

        Source: SPIFFE X509-SVID 3.2, 4; RFC 5280 4.2.1
        """
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, draft.common_name)])
        key_identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key)
            .serial_number(draft.serial)
            .not_valid_before(draft.not_before)
            .not_valid_after(draft.not_after)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNING_USAGE, critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(draft.trust_domain.id))]),
                critical=False,
            )
            .add_extension(key_identifier, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier), critical=False
            )
            .sign(as_private_key(key), hash_of(key.kind))
        )
        return SignedCA(chain=(certificate,), roots=(certificate,))


_SIGNING_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


PLUGIN: Plugin[NoSettings, PluginContext, SelfSigned] = Plugin(
    NoSettings, lambda _settings, _surroundings: SelfSigned()
)
