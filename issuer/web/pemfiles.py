"""The certificate and the key of web_address: read from their files, and made a server's context of TLS."""

import contextlib
import os
import re
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from cognomen.process.privatefile import read_given
from cognomen.protocol.errors import Kind, Refused

__all__ = ["check_regular", "own_certificate", "pem_files", "read_chain", "tls_context"]

_MAX_PEM_BYTES = 64 * 1024
_PRIVATE_KEY = b"PRIVATE KEY-----"
_OTHERS = 0o077
_OF_ONE_PROCESS = ("/dev/", "/proc/")
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def check_regular(path: Path, found: os.stat_result) -> None:
    """Check the type of what was found at that path.

    Raises:
        Refused: INVALID when it is no regular file.
    """
    if not stat.S_ISREG(found.st_mode):
        raise Refused(Kind.INVALID, f"{path}: expected a regular file")


def pem_files(certificate: str, key: str) -> tuple[bytes, bytes]:
    """Read both; nobody can make us wait by what he puts there.

    Raises:
        OSError: the certificate cannot be read.
        Refused: INVALID when one is a stream, no regular file or too large, or the key is open to others; and as read_given.
    """
    for name, path in (("web_certificate_file", certificate), ("web_key_file", key)):
        if path.startswith(_OF_ONE_PROCESS):
            raise Refused(Kind.INVALID, f"{name}: expected a file that can be read again after a change, found {path}")
    secret = read_given(Path(key), "web_key_file", max_bytes=_MAX_PEM_BYTES)
    return read_chain(certificate), secret


def read_chain(path: str) -> bytes:
    """Read a file of certificates, which anybody may read.

    Raises:
        OSError: it cannot be read.
        Refused: INVALID when it is no regular file, too large, or has a private key that others may read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        check_regular(Path(path), found)
        data = file.read(_MAX_PEM_BYTES + 1)
    if len(data) > _MAX_PEM_BYTES:
        raise Refused(Kind.INVALID, f"{path}: expected at most {_MAX_PEM_BYTES} bytes, found more")
    if _PRIVATE_KEY in data and stat.S_IMODE(found.st_mode) & _OTHERS:
        raise Refused(
            Kind.INVALID,
            f"{path}: expected certificates alone, found a private key that others may read",
            hint=f"put only the certificates into it; or: chmod go= {path}",
        )
    return data


def tls_context(chain: bytes, key: bytes) -> ssl.SSLContext:
    """A server's context for these contents of PEM files.

    Raises:
        OSError: they are not what they should be (ssl.SSLError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # relying parties are other people's programs
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    with _in_memory(chain) as chain_path, _in_memory(key) as key_path:
        context.load_cert_chain(chain_path, key_path, password=_no_password)
    return context


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The path of a file on no disk: OpenSSL wants a path, and at the one that we read there may be another file by now."""
    with os.fdopen(os.memfd_create("pem", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def own_certificate(chain: bytes) -> bytes:
    """The first certificate of a PEM file, DER; empty: there is none."""
    found = _CERTIFICATE.search(chain.decode("latin-1"))
    try:
        return ssl.PEM_cert_to_DER_cert(found[0]) if found else b""
    except ValueError:  # no base64, which OpenSSL read differently
        return b""


def _no_password() -> str:
    """Otherwise OpenSSL asks the terminal."""
    return ""
