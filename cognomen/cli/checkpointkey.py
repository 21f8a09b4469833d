"""The key that signs checkpoints, as --key names it: its thumbprint, or a file with the public key."""

import os
import re
import stat
from pathlib import Path

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from svid.keys import thumbprint

__all__ = ["key_thumbprint"]

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_INHERITED = re.compile(r"/dev/(stdin|fd/[0-9]{1,9})")
_MOST_BYTES = 64 * 1024


def key_thumbprint(text: str) -> str:
    """The thumbprint that --key gives, or that of the public key in the file that it names, in PEM or DER.

    Raises:
        click.BadParameter: it is neither.
    """
    if _SHA256.fullmatch(text):
        return text.lower()
    try:
        data = _content(Path(text))
        load = load_pem_public_key if data.startswith(b"-----BEGIN") else load_der_public_key
        return thumbprint(load(data).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    except (OSError, ValueError, UnsupportedAlgorithm) as e:
        raise click.BadParameter(
            f"expected 64 hexadecimal digits or a public key's file, found {text}", param_hint="--key"
        ) from e


def _content(file: Path) -> bytes:
    """A file's bytes. Nothing is awaited of a pipe or a device that anybody may have put there; a pipe of the shell's is one of ours.

    Raises:
        ValueError: it is no file, or too long for a key.
    """
    waits = 0 if _INHERITED.fullmatch(str(file)) else os.O_NONBLOCK
    with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | waits), "rb") as opened:  # noqa: PTH123 - of a descriptor
        if waits and not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ValueError("expected a file")
        data = opened.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes, found more")
    return data
