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
from shlex import quote
from typing import IO

import click

from cognomen.protocol.auditlog import AuditRow, Checkpoint
from cognomen.protocol.errors import Kind, Refused
from svid.encoding import json_value

__all__ = ["FILTERED", "REST_OF_FILE", "checkpoint_line", "read_export", "row_line"]

FILTERED = '{"filtered":true}'
"""The first line of rows that a filter chose: they do not follow each other."""

REST_OF_FILE = "if the file is not whole, fetch what it lacks: cognomen audit export --page-token {}"
"""What to do about a file without the rows after that number."""

_MAX_LINE_BYTES = 4 * 1024 * 1024
_HASH = re.compile(r"[0-9a-f]{64}")
_BEGINS = (b'{"number":', b'{"checkpoint":')


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
    last = 0
    for file in files:
        with _opened(file) as lines:
            number = 0
            while line := lines.readline(_MAX_LINE_BYTES):
                number += 1
                if not line.strip():
                    continue
                try:
                    item = _parsed(line)
                except ValueError as e:
                    raise _unreadable(file, number, line, e, last) from e
                last = item.number if isinstance(item, AuditRow) else last
                yield item


def _unreadable(file: Path, number: int, line: bytes, error: ValueError, last: int) -> Refused:
    """What is wrong with a line that cannot be read.

    Args:
        last: the number of the last row before it.
    """
    is_written_on = any(line.find(begin, 1) > 0 for begin in _BEGINS)  # within a text, it would have backslashes
    if is_written_on or (len(line) < _MAX_LINE_BYTES and not line.endswith(b"\n")):
        more = ", and another one begins on it" if is_written_on else ""
        keep = f"head -n {number - 1} {quote(str(file))} > NEW"
        return Refused(
            Kind.INVALID,
            f"{file} line {number}: the line is incomplete{more}: what wrote it was cut off, as by a full disk",
            hint=f"keep the lines before it ({keep}), and go on: cognomen audit export --page-token {last} >> NEW",
        )
    return Refused(
        Kind.INVALID,
        f"{file} line {number}: expected a row or a checkpoint as cognomen audit export writes them: {error}",
    )


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
