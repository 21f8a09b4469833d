"""The node in one private file: replaced whole, read whole or not at all.

Shape: a line `cognomen-node-state 1 <payload bytes> <SHA-256 of the payload>`, then the payload, a JSON object. Its keys: private_key
(PKCS #8), token_hash, and joined: null, or an object of chain (DER certificates, leaf first), issued_at, trust_domain, bundle (a SPIFFE
bundle), join_address, node_address. Bytes are in base64.
"""

import hashlib
from datetime import datetime
from pathlib import Path

import msgspec

from attestor.decisions.node import Joining, Node
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import private_directory, read_private, write_private
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.keys import private_key_from_der, private_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID

__all__ = ["DiskState"]

_FILE = "node.state"
_MAGIC = b"cognomen-node-state"
_VERSION = b"1"
_HINT = "restore the file from a backup, or remove it and join with a new invite"


class _Joined(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    chain: bytes
    issued_at: datetime
    trust_domain: str
    bundle: bytes
    join_address: str
    node_address: str


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    private_key: bytes
    token_hash: str
    joined: _Joined | None


class DiskState:
    """Keeps the node in `node.state` in a directory of mode 0700, which is created where it is missing."""

    def __init__(self, directory: Path) -> None:
        self._path = private_directory(directory) / _FILE

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def load(self) -> Joining | Node | None:
        """What was kept."""
        try:
            data = read_private(self._path)
        except Refused as e:
            if e.kind is Kind.NOT_FOUND:
                return None
            raise
        try:
            return _kept(msgspec.json.decode(_payload(data), type=_Document))
        except (ValueError, SVIDError) as e:  # msgspec's errors are ValueErrors
            raise Refused(Kind.INVALID, f"file {self._path}: {e}", hint=_HINT) from e

    def save(self, kept: Joining | Node) -> None:
        """Keep it instead of what was there."""
        payload = msgspec.json.encode(_document(kept))
        header = b"%s %s %d %s\n" % (_MAGIC, _VERSION, len(payload), hashlib.sha256(payload).hexdigest().encode())
        write_private(self._path, header + payload)


def _payload(data: bytes) -> bytes:
    header, newline, payload = data.partition(b"\n")
    fields = header.split(b" ")
    if not newline or fields[0] != _MAGIC or len(fields) != 4:  # noqa: PLR2004 - see Shape
        raise ValueError(f"expected a node state, found {len(data)} bytes that do not begin as one")
    if fields[1] != _VERSION:
        raise ValueError(f"expected version {_VERSION.decode()}, found {fields[1][:20]!r}")
    if str(len(payload)).encode() != fields[2]:
        raise ValueError(f"expected {fields[2][:20].decode(errors='replace')} bytes of content, found {len(payload)}")
    if hashlib.sha256(payload).hexdigest().encode() != fields[3]:
        raise ValueError("expected the content that the checksum names, found another")
    return payload


def _document(kept: Joining | Node) -> _Document:
    if isinstance(kept, Joining):
        return _Document(private_key=private_key_to_der(kept.private_key), token_hash=kept.token_hash, joined=None)
    return _Document(
        private_key=private_key_to_der(kept.svid.private_key),
        token_hash=kept.token_hash,
        joined=_Joined(
            chain=kept.svid.chain_der(),
            issued_at=kept.issued_at,
            trust_domain=kept.bundle.trust_domain.name,
            bundle=kept.bundle.to_jwks(),
            join_address=kept.join_address,
            node_address=kept.node_address,
        ),
    )


def _kept(document: _Document) -> Joining | Node:
    joined = document.joined
    if joined is None:
        return Joining(private_key=private_key_from_der(document.private_key), token_hash=document.token_hash)
    return Node(
        svid=X509SVID.parse(joined.chain, document.private_key),
        issued_at=joined.issued_at,
        bundle=Bundle.from_jwks(TrustDomain(joined.trust_domain), joined.bundle),
        join_address=joined.join_address,
        node_address=joined.node_address,
        token_hash=document.token_hash,
    )
