"""Keep the node in one private file, which is replaced as a whole, and read as a whole or not at all.

Shape: a line `cognomen-node-state 1 <payload bytes> <SHA-256 of the payload>`, then the payload, a JSON object of two: joining (null, or
private_key and token_hash) and node (null, or private_key in PKCS #8, chain as DER certificates leaf first, issued_at, trust_domain,
bundle as a SPIFFE bundle, join_address, node_address, token_hash). Bytes are in base64.

Beside it are checkpoints of the issuer, a line each, in `checkpoints.jsonl`, which anybody can check, and in `checkpoints.heard` a line
`<SHA-256 of that line> <seconds since 1970>`: when this node heard it.
"""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from attestor.decisions.node import Joining, Node
from cognomen.process.privatefile import private_directory, read_private, write_private
from cognomen.process.wholefile import sweep
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.witness import Heard, contradiction, thinned
from svid.bundle import Bundle
from svid.errors import SVIDError
from svid.keys import private_key_from_der, private_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID

__all__ = ["DiskState", "parse_state"]

_FILE, _CHECKPOINTS, _HEARD, _CONTRADICTIONS = (
    "node.state",
    "checkpoints.jsonl",
    "checkpoints.heard",
    "contradictions.jsonl",
)
_NEWEST_CHECKPOINTS = 100
_CHECKPOINTS_PER_HOUR = 16  # an honest issuer makes 12
_MOST_CONTRADICTIONS = 1000
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
    """Keeps the node in `node.state` in a directory of mode 0700, which is created if it is missing.

    Temporary files that killed writers left there, which contain keys, are removed first.
    """

    def __init__(self, directory: Path) -> None:
        self._path = private_directory(directory) / _FILE
        self._alone = threading.Lock()  # a write that nobody waits for any longer must not undo the next one
        sweep(directory)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @staticmethod
    def is_in(directory: Path) -> bool:
        """Whether anything was kept in that directory; this makes nothing."""
        return os.path.lexists(directory / _FILE)

    def load(self) -> Joining | Node | None:
        """What was kept."""
        try:
            data = read_private(self._path)
        except Refused as e:
            if e.kind is Kind.NOT_FOUND:
                return None
            raise
        return parse_state(data, what=f"file {self._path}")

    def keep_checkpoint(self, checkpoint: Checkpoint, *, now: datetime) -> str:
        """Append a checkpoint, one line each; the older ones are thinned out."""
        with self._alone:
            lines = self._lines(_CHECKPOINTS)
            line = checkpoint.to_json()
            if line in lines:  # the last one arrives again with each connection
                return ""
            held = self._held(lines, now)
            why = contradiction([one.checkpoint for one in held], checkpoint)
            if why:
                try:
                    self._keep_apart(line, why)
                except Refused as e:
                    raise Refused(e.kind, f"contradiction, not kept: {why}: {e.detail}", hint=e.hint) from e
            else:
                held.append(Heard(checkpoint=checkpoint, at=now))
                self._keep(thinned(held, newest=_NEWEST_CHECKPOINTS, now=now, per_hour=_CHECKPOINTS_PER_HOUR))
            return why

    def _held(self, lines: Sequence[bytes], now: datetime) -> list[Heard]:
        """Those on disk; of one that a former release kept, or that a crash left, nobody noted when it was heard: not before it says."""
        times = _times(self._lines(_HEARD))
        read = [(line, _checkpoint(line)) for line in lines]
        return [
            Heard(checkpoint=one, at=times.get(_digest(line), min(one.at, now)))
            for line, one in read
            if one is not None
        ]

    def _keep(self, held: Sequence[Heard]) -> None:
        lines = [one.checkpoint.to_json() for one in held]
        times = [int(one.at.timestamp()) for one in held]
        self._write(_HEARD, [b"%s %d" % (_digest(line), at) for line, at in zip(lines, times, strict=True)])
        self._write(_CHECKPOINTS, lines)

    def contradicted(self) -> str:
        """Where checkpoints are that contradict the others; empty: there are none."""
        return str(self._path.with_name(_CONTRADICTIONS)) if self._lines(_CONTRADICTIONS) else ""

    def _keep_apart(self, line: bytes, why: str) -> None:
        """The first that contradict are those that count; a flood of them must not fill the disk."""
        lines = self._lines(_CONTRADICTIONS)
        document = msgspec.json.encode({"checkpoint": line.decode(), "why": why})
        if document not in lines and len(lines) < _MOST_CONTRADICTIONS:
            self._write(_CONTRADICTIONS, [*lines, document])

    def _lines(self, name: str) -> list[bytes]:
        try:
            return read_private(self._path.with_name(name)).splitlines()
        except Refused as e:
            if e.kind is not Kind.NOT_FOUND:
                raise
            return []

    def _write(self, name: str, lines: Sequence[bytes]) -> None:
        write_private(self._path.with_name(name), b"".join(line + b"\n" for line in lines))

    def save(self, kept: Joining | Node) -> None:
        """Save it in place of the previous one."""
        payload = msgspec.json.encode(_document(kept))
        header = b"%s %s %d %s\n" % (_MAGIC, _VERSION, len(payload), hashlib.sha256(payload).hexdigest().encode())
        write_private(self._path, header + payload)


def _checkpoint(line: bytes) -> Checkpoint | None:
    """A line that cannot be read any more says nothing."""
    try:
        return Checkpoint.parse(line)
    except ValueError:
        return None


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest().encode()


def _times(lines: Sequence[bytes]) -> Mapping[bytes, datetime]:
    """When each was heard, by its digest; a line that cannot be read any more says nothing."""
    times: dict[bytes, datetime] = {}
    for line in lines:
        digest, _, at = line.partition(b" ")
        try:
            times[digest] = datetime.fromtimestamp(int(at), UTC)
        except (ValueError, OverflowError, OSError):
            continue
    return times


def parse_state(data: bytes, *, what: str) -> Joining | Node:
    """Read what a state file holds.

    Args:
        what: names the source of the data in an error.

    Raises:
        Refused: INVALID for bytes that do not follow the module's format.
    """
    try:
        return _kept(msgspec.json.decode(_payload(data), type=_Document))
    except (ValueError, SVIDError) as e:  # msgspec's errors are ValueErrors
        raise Refused(Kind.INVALID, f"{what}: {e}", hint=_HINT) from e


def _payload(data: bytes) -> bytes:
    header, newline, payload = data.partition(b"\n")
    fields = header.split(b" ")
    if not newline or fields[0] != _MAGIC or len(fields) != 4:  # noqa: PLR2004 - see Shape
        raise ValueError(f"expected a node state, found {len(data)} bytes of something else")
    if fields[1] != _VERSION:
        raise ValueError(f"expected version {_VERSION.decode()}, found {fields[1][:20]!r}")
    if str(len(payload)).encode() != fields[2]:
        raise ValueError(f"expected {fields[2][:20].decode(errors='replace')} bytes of content, found {len(payload)}")
    if hashlib.sha256(payload).hexdigest().encode() != fields[3]:
        raise ValueError("the content does not match its checksum")
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
