"""The audit chain and its signed checkpoints, in a form that anybody can check, even people who do not trust the issuer that writes them.

What is recorded is decided in issuer/decisions/audit; when a checkpoint is made, in issuer/flows/write_checkpoints.
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

from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.printable import printable
from svid.encoding import JSON, json_value
from svid.errors import SVIDError
from svid.keys import PublicKey, SigningKey, hash_of, kind_of, public_key_from_der, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain

__all__ = [
    "GENESIS",
    "MAX_CHECKPOINT_BYTES",
    "RESTORED",
    "AuditRow",
    "ChainCheck",
    "Checkpoint",
    "Mark",
    "MissingRowsError",
    "Restore",
    "broken_link",
    "link",
]

GENESIS = bytes(32)
"""The value that takes the place of a previous hash for the first row."""

RESTORED = "store restored"
"""The action of the first row after a restore; its fact `incarnation` names the incarnation that ended there."""

MAX_CHECKPOINT_BYTES = 4096

_MAX_COUNT = 2**63
_HASH = re.compile(r"[0-9a-f]{64}")
_BYTES = re.compile(r"(?:[0-9a-f]{2})*")
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
    """Find the first row that does not follow from the one before it; None: all rows do."""
    for row in rows:
        number += 1
        head = link(head, row.body)
        if row.number != number or row.hash != head:
            return number
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in the chain: the number of rows up to there, and the hash of the last of them."""

    count: int
    head: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The length and newest hash of the chain at one moment, signed by a key that signs nothing else but reviews of agents (agentreview).

    Shape: one JSON object with sorted keys and no spaces; hash, key and signature in hexadecimal. The signature covers a fixed context and
    that object without the signature.

    Args:
        count: the number of rows; head is the hash of the last of them.
        public_key: SubjectPublicKeyInfo DER.
        previous: what the checkpoint before it covers, so that whoever holds that one sees whether this one goes on from it; None: it is
            the first, or one of a release that did not say.
    """

    trust_domain: TrustDomain
    incarnation: str
    count: int
    head: bytes
    at: datetime
    public_key: bytes
    previous: Mark | None = None
    signature: bytes = b""

    def signed(self, key: SigningKey) -> Self:
        """This checkpoint with its key and signature."""
        unsigned = replace(self, public_key=public_key_to_der(key.public_key), signature=b"")
        return replace(unsigned, signature=key.sign(unsigned.signed_bytes()))

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read a checkpoint without checking its signature.

        Raises:
            ValueError: the text is not a checkpoint, or has a key twice: two programs could read two checkpoints in it.
        """
        if len(text) > MAX_CHECKPOINT_BYTES:
            raise ValueError(f"checkpoint: expected at most {MAX_CHECKPOINT_BYTES} bytes, found {len(text)}")
        try:
            match json_value(text):
                case {
                    "trust_domain": str(trust_domain),
                    "incarnation": str(incarnation),
                    "count": int(count),
                    "head": str(head),
                    "at": str(at),
                    "public_key": str(public_key),
                    "signature": str(signature),
                    **rest,
                } if not rest.keys() - {"previous"} and _is_mark(count, head):
                    return cls(
                        trust_domain=TrustDomain.parse(trust_domain),
                        incarnation=incarnation,
                        count=count,
                        head=bytes.fromhex(head),
                        at=_moment(at),
                        public_key=_bytes(public_key, "public_key"),
                        previous=_mark(rest["previous"]) if "previous" in rest else None,
                        signature=_bytes(signature, "signature"),
                    )
        except (ValueError, SVIDError) as e:
            raise ValueError(f"checkpoint: expected a JSON object as the issuer writes it: {e}") from e
        raise ValueError("checkpoint: expected trust_domain, incarnation, count, head, at, public_key and signature")

    @property
    def key_thumbprint(self) -> str:
        """The SHA-256 of its key, in lower-case hexadecimal."""
        return thumbprint(self.public_key)

    def check_signature(self) -> None:
        """Check that the key in it signed it; only the issuer's operator can say whether that is the issuer's key.

        Raises:
            ValueError: the key did not sign it.
        """
        try:
            _verify(self.signature, self.signed_bytes(), public_key_from_der(self.public_key))
        except (InvalidSignature, SVIDError) as e:
            raise ValueError("checkpoint: its signature is not by the key in it") from e

    def to_json(self) -> bytes:
        """Write it on one line."""
        return _encode({**self._document(), "signature": self.signature.hex()})

    def signed_bytes(self) -> bytes:
        """The bytes that the signature covers."""
        return _CONTEXT + _encode(self._document())

    def _document(self) -> dict[str, JSON]:
        document: dict[str, JSON] = {
            "trust_domain": self.trust_domain.name,
            "incarnation": self.incarnation,
            "count": self.count,
            "head": self.head.hex(),
            "at": self.at.isoformat(),
            "public_key": self.public_key.hex(),
        }
        if self.previous is not None:
            document["previous"] = {"count": self.previous.count, "head": self.previous.head.hex()}
        return document


def _is_mark(count: int, head: str) -> bool:
    return count is not True and 0 <= count < _MAX_COUNT and bool(_HASH.fullmatch(head))


def _mark(document: object) -> Mark:
    match document:
        case {"count": int(count), "head": str(head), **rest} if not rest and _is_mark(count, head):
            return Mark(count=count, head=bytes.fromhex(head))
    raise ValueError("previous: expected count and head")


def _bytes(text: str, key: str) -> bytes:
    if not _BYTES.fullmatch(text):
        raise ValueError(f"{key}: expected bytes in lower-case hexadecimal")
    return bytes.fromhex(text)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as e:
        raise ValueError("at: expected a time such as 2026-11-23T08:00:00Z, in the years 1 to 9999 of UTC") from e


def _encode(document: dict[str, JSON]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _verify(signature: bytes, signed: bytes, key: PublicKey) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidSignature
    key.verify(signature, signed, ec.ECDSA(hash_of(kind_of(key))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """A row that says that the issuer went on from a backup.

    Args:
        ended: the incarnation that ended there.
        at, backup_of: when that was, and when the backup was made, as the row says it, printable.
    """

    number: int
    ended: str
    at: str
    backup_of: str


class MissingRowsError(ValueError):
    """Rows are missing: they were deleted, or whoever passed them on left them out.

    Args:
        after: the number of the row that they follow.
    """

    def __init__(self, message: str, *, after: int) -> None:
        super().__init__(message)
        self.after = after


class ChainCheck:
    """Reads a chain from its first row on, or from the row that follows a checkpoint, and compares it with checkpoints.

    Args:
        checkpoints: those whose signatures are already checked.
        begin: the checkpoint whose rows were checked before; None: from the first row on.

    Attributes:
        repeated: how many rows came again, with the same bytes, as from a log server that took an answer twice.
    """

    def __init__(self, checkpoints: Iterable[Checkpoint], *, begin: Checkpoint | None = None) -> None:
        self._checkpoints = list(checkpoints)
        self.begin, self._head = (0, GENESIS) if begin is None else (begin.count, begin.head)
        self.count = self.begin
        self._first = self._head
        self._heads = bytearray()  # of each row: a checkpoint may come after its row
        self.restores: list[Restore] = []
        self.repeated = 0

    def expect(self, checkpoint: Checkpoint) -> None:
        """Compare with one more checkpoint, also if its row was read already."""
        self._checkpoints.append(checkpoint)

    def read(self, rows: Iterable[AuditRow]) -> None:
        """Read the next rows.

        Raises:
            MissingRowsError: a row is missing.
            ValueError: a row does not follow from those before it, comes again with other bytes, or seems to record a restore and is
                not an event.
        """
        for row in rows:
            if row.number <= self.count:
                self._read_again(row)
                continue
            head = link(self._head, row.body)
            if row.number != self.count + 1:
                message = f"row {self.count + 1} is missing, found row {row.number}: rows were deleted"
                raise MissingRowsError(message, after=self.count)
            if row.hash != head:
                raise ValueError(f"row {row.number} does not follow from the rows before it: a row was edited")
            if RESTORED.encode() in row.body:
                self._note_restore(row)
            self.count, self._head = row.number, head
            self._heads += head

    def compare(self, checkpoint: Checkpoint) -> str:
        """Say what a checkpoint shows about the rows that were read.

        Raises:
            MissingRowsError: the end was cut off since it was signed.
            ValueError: rows were edited since.
        """
        if checkpoint.count < self.begin:
            return f"only about rows before {self.begin + 1}, which were not read"
        restore = self.lost_by(checkpoint)
        if restore:
            return (
                f"rows {restore} to {checkpoint.count} of that time were lost in the restore that row {restore} records"
            )
        if checkpoint.count > self.count:
            message = (
                f"checkpoint of {moment_in_words(checkpoint.at)}: expected {checkpoint.count} rows, found {self.count}:"
                f" the end was cut off, from row {self.count + 1} on"
            )
            raise MissingRowsError(message, after=self.count)
        if not self._agrees(checkpoint):
            below = (one.count for one in self._checkpoints if one.count < checkpoint.count and self._agrees(one))
            agreed = max(below, default=self.begin)
            raise ValueError(
                f"checkpoint of {moment_in_words(checkpoint.at)}: row {checkpoint.count} is a different one now:"
                f" the chain was rewritten, from a row between {agreed + 1} and {checkpoint.count} on"
            )
        if checkpoint.count == self.begin:
            return f"row {self.begin + 1} follows from its last row" if self.begin else "it covers no row"
        return f"rows {self.begin + 1} to {checkpoint.count} are as they were then"

    def lost_by(self, checkpoint: Checkpoint) -> int:
        """The row that records a restore from a backup without some of the rows that this checkpoint covers; 0: there is none.

        That row is recorded like any other. Only people know whether somebody restored a backup, or cut the log off and wrote that row.
        """
        rows = (one.number for one in self.restores if one.ended == checkpoint.incarnation)
        return next((row for row in rows if row <= checkpoint.count), 0)

    def _read_again(self, row: AuditRow) -> None:
        before, head = self._head_at(row.number - 1), self._head_at(row.number)
        if before is None or head is None or row.number <= self.begin:
            raise ValueError(
                f"row {row.number} comes after row {self.count}, and nothing before row {self.begin + 1} was read"
            )
        if row.hash != head or link(before, row.body) != head:
            raise ValueError(f"row {row.number} comes twice, with different bytes: a row was edited")
        self.repeated += 1

    def _head_at(self, count: int) -> bytes | None:
        if count == self.begin:
            return self._first
        end = (count - self.begin) * len(GENESIS)
        return bytes(self._heads[end - len(GENESIS) : end]) if 0 < end <= len(self._heads) else None

    def _agrees(self, checkpoint: Checkpoint) -> bool:
        return not self.lost_by(checkpoint) and self._head_at(checkpoint.count) == checkpoint.head

    def _note_restore(self, row: AuditRow) -> None:
        try:
            event = json_value(row.body)
        except ValueError as e:
            raise ValueError(f"row {row.number}: expected an event as the issuer writes it: {e}") from e
        match event:
            case {"action": action, "at": str(at), "facts": {"incarnation": str(ended), **facts}} if action == RESTORED:
                backup_of = str(facts.get("backup_of", ""))
                found = Restore(number=row.number, ended=ended, at=printable(at), backup_of=printable(backup_of))
                self.restores.append(found)
