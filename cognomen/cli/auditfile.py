"""The file format of `cognomen audit export`: rows of the record and checkpoints, one JSON object a line.

Shape: a row is {"number": N, "hash": HEX, "body": TEXT}; TEXT encoded as UTF-8 is exactly what was hashed. Bytes that are not UTF-8 are
lone surrogates (Python's surrogateescape), so that a damaged row stays what it is. A checkpoint is {"checkpoint": TEXT}. Rows that a
filter chose come after the line {"filtered": true}.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import click

from cognomen.protocol.auditlog import AuditRow, Checkpoint
from cognomen.protocol.errors import Kind, Refused
from svid.encoding import json_value

__all__ = ["FILTERED", "checkpoint_line", "read_export", "row_line"]

FILTERED = '{"filtered":true}'
"""The first line of rows that a filter chose: they do not follow each other."""

_MAX_LINE_BYTES = 4 * 1024 * 1024
_HASH = re.compile(r"[0-9a-f]{64}")


def row_line(row: AuditRow) -> str:
    """Write a row."""
    return _line({"number": row.number, "hash": row.hash.hex(), "body": row.body.decode(errors="surrogateescape")})


def checkpoint_line(text: bytes) -> str:
    """Write a checkpoint, in its own JSON."""
    return _line({"checkpoint": text.decode()})


def read_export(files: Iterable[Path]) -> Iterator[AuditRow | Checkpoint]:
    """Read files one after the other; `-` is standard input. Signatures are not checked.

    Raises:
        Refused: INVALID, naming the file and the line.
    """
    for file in files:
        with _opened(file) as lines:
            number = 0
            while line := lines.readline(_MAX_LINE_BYTES):
                number += 1
                if not line.strip():
                    continue
                try:
                    yield _parsed(line)
                except ValueError as e:
                    raise Refused(
                        Kind.INVALID,
                        f"{file} line {number}: expected a row or a checkpoint as cognomen audit export writes them: {e}",
                    ) from e


def _line(document: dict[str, str | int]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _parsed(line: bytes) -> AuditRow | Checkpoint:
    match json_value(line):
        case {"number": int(number), "hash": str(digest), "body": str(body), **rest} if (
            not rest and number is not True and number > 0
        ):
            if not _HASH.fullmatch(digest):
                raise ValueError("hash: expected 32 bytes in lower-case hexadecimal")
            return AuditRow(number=number, body=_bytes(body, "surrogateescape"), hash=bytes.fromhex(digest))
        case {"checkpoint": str(text), **rest} if not rest:
            return Checkpoint.parse(_bytes(text, "strict"))
        case {"filtered": True, **rest} if not rest:
            raise Refused(
                Kind.INVALID,
                "file: its rows were chosen by a filter, so they do not follow each other, and cannot be checked",
                hint="export all of them: cognomen audit export, with --page-token at most",
            )
    raise ValueError("found another object")


def _bytes(text: str, errors: str) -> bytes:
    try:
        return text.encode(errors=errors)
    except UnicodeEncodeError as e:
        raise ValueError("found half a surrogate pair, which stands for no byte") from e


def _opened(file: Path) -> AbstractContextManager[IO[bytes]]:
    try:
        return click.open_file(str(file), "rb")
    except OSError as e:
        raise click.UsageError(f"{file}: {(e.strerror or str(e)).lower()}") from e
