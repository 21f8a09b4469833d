"""The files of one X509-SVID, in the forms that servers read: PEM in two files, in one, beside each other, or PKCS #12."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import click
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from cognomen.cli.keeping import Files
from cognomen.cli.options import GivenPath
from cognomen.process.privatefile import read_given
from cognomen.protocol.errors import Kind, Refused
from svid.bundle import Bundle
from svid.crl import CRL, crls_to_pem
from svid.wire.workload import X509Context
from svid.x509svid import X509SVID

__all__ = ["Form", "Forms", "also_option", "password_option"]

_MAX_PASSWORD_BYTES = 1024


class Form(StrEnum):
    """A file beside svid.pem and svid_key.pem."""

    COMBINED = "combined"
    HAPROXY = "haproxy"
    PKCS12 = "pkcs12"


also_option = click.option(
    "--also",
    type=click.Choice([str(form) for form in Form]),
    multiple=True,
    callback=lambda _context, _parameter, texts: tuple(map(Form, texts)),
    help="Write the key in this form, too; repeatable.",
)
password_option = click.option(
    "--password-file",
    type=GivenPath(allow_dash=True),
    metavar="FILE|-",
    help="The password of svid.p12 on one line, in a file that only you can read, or on standard input.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """Which files to write.

    Args:
        also: besides svid.pem, svid_key.pem, bundle.pem and crl.pem.
        password: of the PKCS #12 file.
    """

    also: Collection[Form] = ()
    password: bytes = field(default=b"", repr=False)

    @classmethod
    def asked(cls, also: Sequence[Form], password_file: Path | None) -> "Forms":
        """What the options say.

        Raises:
            click.UsageError: one of the two options lacks the other.
            Refused: the file cannot be read, others may read it, or it holds no password.
        """
        if (Form.PKCS12 in also) != (password_file is not None):
            raise click.UsageError("expected --also pkcs12 and --password-file together, found one of them")
        return cls(also=frozenset(also), password=b"" if password_file is None else _password(password_file))

    def of(self, svid: X509SVID, context: X509Context) -> Files:
        """The private files and the public ones, by name."""
        bundle = context.bundles[svid.spiffe_id.trust_domain]
        private = {"svid_key.pem": svid.key_pem()} | {_NAMES[form]: _MAKERS[form](svid, self) for form in self.also}
        return private, {"svid.pem": svid.chain_pem(), "bundle.pem": bundle.to_pem(), **_crl_file(context.crls, bundle)}


def _combined(svid: X509SVID, _: Forms) -> bytes:
    return svid.chain_pem() + svid.key_pem()


def _pkcs12(svid: X509SVID, forms: Forms) -> bytes:
    name = str(svid.spiffe_id).encode()
    leaf, *above = svid.chain
    return serialize_key_and_certificates(
        name, svid.private_key, leaf, above or None, BestAvailableEncryption(forms.password)
    )


_NAMES: Mapping[Form, str] = {
    Form.COMBINED: "svid_combined.pem",
    Form.HAPROXY: "svid.pem.key",
    Form.PKCS12: "svid.p12",
}
_MAKERS: Mapping[Form, Callable[[X509SVID, Forms], bytes]] = {
    Form.COMBINED: _combined,
    Form.HAPROXY: lambda svid, _: svid.key_pem(),
    Form.PKCS12: _pkcs12,
}


def _password(file: Path) -> bytes:
    password = _text_of(file).removesuffix(b"\n").removesuffix(b"\r")
    if not password or b"\n" in password or b"\0" in password:
        raise Refused(Kind.INVALID, f"password file {file}: expected a password on one line")
    try:
        password.decode()
    except UnicodeDecodeError as e:  # PKCS #12 has passwords in Unicode
        raise Refused(Kind.INVALID, f"password file {file}: expected UTF-8 text") from e
    return password


def _text_of(file: Path) -> bytes:
    if file != Path("-"):
        return read_given(file, "password file", max_bytes=_MAX_PASSWORD_BYTES)
    data = sys.stdin.buffer.read(_MAX_PASSWORD_BYTES + 1)
    if len(data) > _MAX_PASSWORD_BYTES:
        raise Refused(Kind.INVALID, f"password file -: expected at most {_MAX_PASSWORD_BYTES} bytes, found more")
    return data


def _crl_file(crls: Sequence[CRL], bundle: Bundle) -> dict[str, bytes]:
    """The lists of the bundle's authorities; no file if there are none, because readers refuse an empty one."""
    own = [crl.der for crl in crls if any(map(crl.is_of, bundle.x509_authorities))]
    return {"crl.pem": crls_to_pem(own)} if own else {}
