"""The audit chain and its signed checkpoints, as anybody can check them: the issuer that writes them, and whoever does not trust it.

What goes on record is decided in issuer/decisions/audit; when a checkpoint is made in issuer/flows/write_checkpoints.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from svid.encoding import JSON
from svid.errors import SVIDError
from svid.keys import PublicKey, SigningKey, hash_of, kind_of, public_key_from_der, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["GENESIS", "MAX_CHECKPOINT_BYTES", "RESTORED", "AuditRow", "ChainCheck", "Checkpoint", "broken_link", "link"]

GENESIS = bytes(32)
"""What stands before the first row's hash."""

RESTORED = "store restored"
"""The action of the row with which a restored store goes on; its fact `incarnation` names the one that ended there."""

MAX_CHECKPOINT_BYTES = 4096

_MAX_COUNT = 2**63
_HASH = re.compile(r"[0-9a-f]{64}")
_CONTEXT = b"cognomen audit checkpoint 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """An event with its place in the chain.

    Shape: hash = SHA-256(previous hash || body), body = the event as JSON with sorted keys, no spaces, UTF-8
    """

    number: int
    body: bytes
    hash: bytes


def link(head: bytes, body: bytes) -> bytes:
    """The hash of a row with this body that follows a row with that hash."""
    return hashlib.sha256(head + body).digest()


def broken_link(rows: Iterable[AuditRow], *, number: int = 0, head: bytes = GENESIS) -> int | None:
    """Find the first row that does not follow from the one before it; None: all do."""
    for row in rows:
        number += 1
        head = link(head, row.body)
        if row.number != number or row.hash != head:
            return number
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far the chain was at a moment, signed by a key that signs nothing else.

    Shape: one JSON object of sorted keys without spaces; hash, key and signature in hexadecimal. The signature covers a fixed context and
    that object without itself.

    Args:
        count: of rows; head is the hash of the last of them.
        public_key: SubjectPublicKeyInfo DER.
    """

    trust_domain: TrustDomain
    incarnation: str
    count: int
    head: bytes
    at: datetime
    public_key: bytes
    signature: bytes = b""

    def signed(self, key: SigningKey) -> Self:
        """This checkpoint with its key and signature."""
        unsigned = replace(self, public_key=public_key_to_der(key.public_key), signature=b"")
        return replace(unsigned, signature=key.sign(unsigned.signed_bytes()))

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read a checkpoint; its signature is not checked.

        Raises:
            ValueError: it is none.
        """
        if len(text) > MAX_CHECKPOINT_BYTES:
            raise ValueError(f"checkpoint: expected at most {MAX_CHECKPOINT_BYTES} bytes, found {len(text)}")
        try:
            match json.loads(text):
                case {
                    "trust_domain": str(trust_domain),
                    "incarnation": str(incarnation),
                    "count": int(count),
                    "head": str(head),
                    "at": str(at),
                    "public_key": str(public_key),
                    "signature": str(signature),
                    **rest,
                } if not rest and count is not True and 0 <= count < _MAX_COUNT and _HASH.fullmatch(head):
                    return cls(
                        trust_domain=TrustDomain.parse(trust_domain),
                        incarnation=incarnation,
                        count=count,
                        head=bytes.fromhex(head),
                        at=datetime.fromisoformat(at).astimezone(UTC),
                        public_key=bytes.fromhex(public_key),
                        signature=bytes.fromhex(signature),
                    )
        except (ValueError, OverflowError, RecursionError, SVIDError) as e:
            raise ValueError(f"checkpoint: expected a JSON object as the issuer writes it: {e}") from e
        raise ValueError("checkpoint: expected trust_domain, incarnation, count, head, at, public_key and signature")

    @property
    def key_thumbprint(self) -> str:
        """The SHA-256 of its key, lower-case hexadecimal."""
        return thumbprint(self.public_key)

    def check_signature(self) -> None:
        """Check that the key in it signed it; whether that is the issuer's key only its holder can say.

        Raises:
            ValueError: it did not.
        """
        try:
            _verify(self.signature, self.signed_bytes(), public_key_from_der(self.public_key))
        except (InvalidSignature, SVIDError) as e:
            raise ValueError("checkpoint: expected a signature by the key in it, found another") from e

    def to_json(self) -> bytes:
        """Write it, on one line."""
        return _encode({**self._document(), "signature": self.signature.hex()})

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return _CONTEXT + _encode(self._document())

    def _document(self) -> dict[str, JSON]:
        return {
            "trust_domain": self.trust_domain.name,
            "incarnation": self.incarnation,
            "count": self.count,
            "head": self.head.hex(),
            "at": self.at.isoformat(),
            "public_key": self.public_key.hex(),
        }


def _encode(document: dict[str, JSON]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _verify(signature: bytes, signed: bytes, key: PublicKey) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidSignature
    key.verify(signature, signed, ec.ECDSA(hash_of(kind_of(key))))


class ChainCheck:
    """Reads a chain from its first row on, and compares it with checkpoints.

    Args:
        checkpoints: their signatures are checked already.
    """

    def __init__(self, checkpoints: Iterable[Checkpoint]) -> None:
        self._checkpoints = sorted(checkpoints, key=lambda one: one.count)
        self._wanted = {one.count for one in self._checkpoints}
        self._heads = {0: GENESIS}
        self._ended: dict[str, int] = {}  # incarnations that ended by a restore: how many rows of them were kept
        self.count = 0
        self._head = GENESIS

    def read(self, rows: Iterable[AuditRow]) -> None:
        """Read the rows that follow.

        Raises:
            ValueError: one does not follow from those before it.
        """
        for row in rows:
            head = link(self._head, row.body)
            if row.number != self.count + 1:
                raise ValueError(f"row {self.count + 1}: expected it, found row {row.number}: rows were deleted")
            if row.hash != head:
                raise ValueError(f"row {row.number}: expected it to follow from the rows before it: one was edited")
            if RESTORED.encode() in row.body:
                self._note_restore(row)
            self.count, self._head = row.number, head
            if self.count in self._wanted:
                self._heads[self.count] = head

    def compare(self, checkpoint: Checkpoint) -> str:
        """Say what a checkpoint shows about the rows that were read.

        Raises:
            ValueError: rows were edited or cut off since it was signed.
        """
        restore = self.lost_by(checkpoint)
        if restore:
            return f"rows {restore} to {checkpoint.count} of then were lost by the restore that row {restore} records"
        if checkpoint.count > self.count:
            raise ValueError(
                f"checkpoint of {checkpoint.at.isoformat()}: expected {checkpoint.count} rows, found {self.count}:"
                f" the end was cut off, from row {self.count + 1} on"
            )
        if not self._agrees(checkpoint):
            agreed = max((one.count for one in self._checkpoints if self._agrees(one)), default=0)
            raise ValueError(
                f"checkpoint of {checkpoint.at.isoformat()}: expected another row {checkpoint.count}:"
                f" the chain was written anew, from a row between {agreed + 1} and {checkpoint.count} on"
            )
        return f"rows 1 to {checkpoint.count} are as they were then"

    def lost_by(self, checkpoint: Checkpoint) -> int:
        """The row of the restored backup that lacked rows which this checkpoint covers; 0: none did.

        That row is on record like any other; whether somebody restored a backup, or cut the log off and wrote it, only people know.
        """
        kept = self._ended.get(checkpoint.incarnation)
        return 0 if kept is None or checkpoint.count <= kept else kept + 1

    def _agrees(self, checkpoint: Checkpoint) -> bool:
        return not self.lost_by(checkpoint) and self._heads.get(checkpoint.count) == checkpoint.head

    def _note_restore(self, row: AuditRow) -> None:
        match json.loads(row.body):
            case {"action": action, "facts": {"incarnation": str(incarnation)}} if action == RESTORED:
                self._ended[incarnation] = row.number - 1
