"""What --key of `audit verify` takes, and what it does not wait for."""

import os
from pathlib import Path

import click
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cognomen.cli.checkpointkey import key_thumbprint
from svid.keys import KeyKind, generate_private_key, public_key_to_der, thumbprint

KEY = generate_private_key(KeyKind.EC_P256).public_key()
DER = public_key_to_der(KEY)
PEM = KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("content", [DER, PEM], ids=["der", "pem"])
def test_a_key_is_named_by_its_thumbprint_or_by_its_file(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    assert key_thumbprint(str(file)) == thumbprint(DER) == key_thumbprint(thumbprint(DER).upper())


def test_a_pipe_of_the_shell_is_a_file() -> None:
    reading, writing = os.pipe()
    os.write(writing, PEM)
    os.close(writing)
    try:
        assert key_thumbprint(f"/dev/fd/{reading}") == thumbprint(DER)
    finally:
        os.close(reading)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["fifo", "large", "text", "missing", ".", "/dev/zero", "/dev/null"])
def test_what_holds_no_key_is_refused_at_once(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(PEM + bytes(64 * 1024))
    (tmp_path / "text").write_text("no key")
    with pytest.raises(click.BadParameter, match="expected 64 hexadecimal digits or a public key's file, found "):
        key_thumbprint(str(tmp_path / name))


@pytest.mark.timeout(30)
def test_a_device_behind_a_descriptor_is_not_read_to_its_end() -> None:
    with Path("/dev/zero").open("rb") as zero, pytest.raises(click.BadParameter):
        key_thumbprint(f"/dev/fd/{zero.fileno()}")
