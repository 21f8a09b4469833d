"""TLS 1.3 by hand, as far as KeyUpdates go: the stdlib's clients send none."""

import hmac
import socket
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["key_updates", "raw_connection"]

_HASH, _KEY_BYTES, _IV_BYTES = "sha384", 32, 12  # of TLS_AES_256_GCM_SHA384, which OpenSSL prefers
_RECORD = bytes([23, 3, 3, 0, 22])  # application_data, 22 bytes: RFC 8446 5.2
_KEY_UPDATE = bytes([24, 0, 0, 1, 0, 22])  # update_not_requested, in a handshake record: RFC 8446 4.6.3


def raw_connection(address: str, context: ssl.SSLContext, keylog: Path) -> tuple[socket.socket, bytes]:
    """Shake hands; the bare socket, and the secret by which the client's next record is to be protected."""
    host, _, port = address.rpartition(":")
    context.keylog_filename = str(keylog)
    secured = context.wrap_socket(socket.create_connection((host, int(port)), timeout=20), server_hostname="localhost")
    assert secured.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
    (line,) = (one for one in keylog.read_text().splitlines() if one.startswith("CLIENT_TRAFFIC_SECRET_0"))
    bare = socket.socket(fileno=secured.detach())
    bare.settimeout(20)
    return bare, bytes.fromhex(line.split()[2])


def key_updates(secret: bytes, count: int) -> bytes:
    """So many KeyUpdates, one after the other, each by the keys that the one before it made."""
    records = []
    for _ in range(count):
        key, nonce = _expand(secret, b"key", _KEY_BYTES), _expand(secret, b"iv", _IV_BYTES)  # the number of each is 0
        records.append(_RECORD + AESGCM(key).encrypt(nonce, _KEY_UPDATE, _RECORD))
        secret = _expand(secret, b"traffic upd", len(secret))
    return b"".join(records)


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of one block (RFC 8446 7.1)."""
    info = length.to_bytes(2) + bytes([len(label) + 6]) + b"tls13 " + label + b"\0"
    return hmac.digest(secret, info + b"\1", _HASH)[:length]
