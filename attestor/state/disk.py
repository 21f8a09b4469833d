"""The node in one private file: replaced whole, read whole or not at all.

Shape: a line `cognomen-node-state 1 <payload bytes> <SHA-256 of the payload>`, then the payload, a JSON object of two: joining (null, or
private_key and token_hash) and node (null, or private_key in PKCS #8, chain as DER certificates leaf first, issued_at, trust_domain,
bundle as a SPIFFE bundle, join_address, node_address, token_hash). Bytes are in base64.
"""

import hashlib
from datetime import datetime
from pathlib import Path

import msgspec

from attestor.decisions.node import Joining, Node
from cognomen.daemon.auditlog import Checkpoint
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import private_directory, read_private, write_private
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.keys import private_key_from_der, private_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID

__all__ = ["DiskState"]

_FILE, _CHECKPOINTS = "node.state", "checkpoints.jsonl"
_MOST_CHECKPOINTS = 100
_MAGIC = b"cognomen-node-state"
_VERSION = b"1"
_HINT = "restore the file from a backup, or remove it and join with a new invite"


class _Joining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    private_key: bytes
    token_hash: str


class _Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    private_key: bytes
    chain: bytes
    issued_at: datetime
    trust_domain: str
    bundle: bytes
    join_address: str
    node_address: str
    token_hash: str


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    joining: _Joining | None
    node: _Node | None


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

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint behind those before it, a line each; only the last hundred stay."""
        path = self._path.with_name(_CHECKPOINTS)
        try:
            lines = read_private(path).splitlines()
        except Refused as e:
            if e.kind is not Kind.NOT_FOUND:
                raise
            lines = []
        line = checkpoint.to_json()
        if lines[-1:] != [line]:  # at each connection the last one comes again
            write_private(path, b"".join(one + b"\n" for one in [*lines, line][-_MOST_CHECKPOINTS:]))

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
    if isinstance(kept, Node):
        return _Document(joining=None, node=_node_document(kept))
    joining = _Joining(private_key=private_key_to_der(kept.private_key), token_hash=kept.token_hash)
    return _Document(joining=joining, node=None if kept.before is None else _node_document(kept.before))


def _node_document(node: Node) -> _Node:
    return _Node(
        private_key=node.svid.key_der(),
        chain=node.svid.chain_der(),
        issued_at=node.issued_at,
        trust_domain=node.bundle.trust_domain.name,
        bundle=node.bundle.to_jwks(),
        join_address=node.join_address,
        node_address=node.node_address,
        token_hash=node.token_hash,
    )


def _kept(document: _Document) -> Joining | Node:
    node = None if document.node is None else _node(document.node)
    if document.joining is not None:
        key = private_key_from_der(document.joining.private_key)
        return Joining(private_key=key, token_hash=document.joining.token_hash, before=node)
    if node is None:
        raise ValueError("expected a node or the key for one, found neither")
    return node


def _node(document: _Node) -> Node:
    return Node(
        svid=X509SVID.parse(document.chain, document.private_key),
        issued_at=document.issued_at,
        bundle=Bundle.from_jwks(TrustDomain(document.trust_domain), document.bundle),
        join_address=document.join_address,
        node_address=document.node_address,
        token_hash=document.token_hash,
    )
