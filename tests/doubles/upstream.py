"""An upstream authority with a root of its own, and an intermediate under it that certifies our signing keys."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cognomen.daemon.plugins import NoSettings, Plugin, PluginContext
from issuer.decisions.profile import CADraft
from issuer.upstream.port import SignedCA
from svid.keys import PublicKey, SigningKey

__all__ = ["BROKEN_PLUGIN", "PLUGIN", "SILENT_PLUGIN", "Silent", "WithIntermediate"]

_USAGE = x509.KeyUsage(
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
_YEARS = timedelta(days=3650)


class WithIntermediate:
    """A root that signed an intermediate, which signs what we ask for."""

    def __init__(self) -> None:
        self._root_key, self._key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.root: x509.Certificate | None = None

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        """Certify it for this key; root and intermediate are made at the first time."""
        if self.root is None:
            self.root = _certificate(
                "root", self._root_key.public_key(), draft.not_before, issuer=None, by=self._root_key
            )
            self._intermediate = _certificate(
                "intermediate", self._key.public_key(), draft.not_before, issuer=self.root, by=self._root_key
            )
        builder = _builder(draft.common_name, key.public_key, issuer=self._intermediate, by=self._key)
        ours = (
            builder.serial_number(draft.serial)
            .not_valid_before(draft.not_before)
            .not_valid_after(draft.not_after)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(draft.trust_domain.id))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return SignedCA(chain=(ours, self._intermediate), roots=(self.root,))


PLUGIN: Plugin[NoSettings, PluginContext, WithIntermediate] = Plugin(
    NoSettings, lambda _settings, _surroundings: WithIntermediate()
)


class SilentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the silent one is told.

    Args:
        asked: a file that it opens once it was asked.
    """

    asked: Path


class Silent:
    """Never answers."""

    def __init__(self, asked: Path) -> None:
        self._asked = asked

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        self._asked.write_text(f"{draft.common_name} {key.id}")
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


SILENT_PLUGIN: Plugin[SilentSettings, PluginContext, Silent] = Plugin(
    SilentSettings, lambda settings, _surroundings: Silent(settings.asked)
)


def _break(_settings: NoSettings, _: PluginContext) -> Silent:
    raise OSError("no such hardware")


BROKEN_PLUGIN: Plugin[NoSettings, PluginContext, Silent] = Plugin(NoSettings, _break)


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    not_before: datetime,
    *,
    issuer: x509.Certificate | None,
    by: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    return (
        _builder(name, key, issuer=issuer, by=by)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before - timedelta(days=1))
        .not_valid_after(not_before + _YEARS)
        .sign(by, hashes.SHA256())
    )


def _builder(
    name: str, key: PublicKey, *, issuer: x509.Certificate | None, by: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
