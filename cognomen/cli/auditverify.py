"""`cognomen audit verify`: check the record of decisions, at the issuer or in files that were exported from it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.auditfile import REST_OF_FILE, read_export
from cognomen.cli.auditrows import rows_of
from cognomen.cli.checkpointkey import key_thumbprint
from cognomen.cli.entrycheck import EntryCheck
from cognomen.cli.ledgercheck import LedgerCheck
from cognomen.cli.options import GivenPath, admin_socket_option, output_option, read_source
from cognomen.cli.output import counted, print_json, print_prose
from cognomen.protocol.auditlog import AuditRow, ChainCheck, Checkpoint, MissingRowsError, Restore
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.moments import moment_in_words
from cognomen.wire.admin import document_from_message, moment_to_text
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON, json_value

__all__ = ["verify"]

_PAGE = 1000
_UNKNOWN_KEY = "that the checkpoint key above is the issuer's: only --key compares it with one that you know"
_NO_KEY = "that the rows are the issuer's: there is no checkpoint, so no key signed anything"
_KEYS_LOST = "if the issuer lost its keys (issuer forget-authorities, or a new start), name each key that you know: --key, repeated"


@dataclass(kw_only=True)
class _Shown:
    """Checkpoints whose signatures were checked: all by one key, and for one trust domain.

    Args:
        pinned: the thumbprints of the keys that they may be signed by; empty: any one key.
        trust_domain: the trust domain that they must be for; empty: any one.
    """

    pinned: frozenset[str]
    trust_domain: str = ""
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def add(self, checkpoint: Checkpoint) -> None:
        try:
            checkpoint.check_signature()
        except ValueError as e:
            raise _changed(str(e)) from e
        found = checkpoint.trust_domain.name
        if found != (self.trust_domain or found):
            raise Refused(Kind.INVALID, f"checkpoint: expected one of {self.trust_domain}, found {found}")
        self.trust_domain = found
        if self.pinned and checkpoint.key_thumbprint not in self.pinned:
            expected = " or ".join(sorted(self.pinned))
            raise _changed(f"checkpoint: expected the key {expected}, found {checkpoint.key_thumbprint}", _KEYS_LOST)
        self.checkpoints.append(checkpoint)
        if not self.pinned and len(self.keys) > 1:
            found = ", ".join(sorted(self.keys))
            raise _changed(f"checkpoints: expected one key, found {len(self.keys)}: {found}", _KEYS_LOST)

    @property
    def keys(self) -> set[str]:
        return {one.key_thumbprint for one in self.checkpoints}


@dataclass(frozen=True, kw_only=True)
class _Store:
    """What else the issuer has: it is compared with the record."""

    ledger: LedgerCheck
    entries: EntryCheck


@click.command()
@click.option(
    "--file",
    "exports",
    type=GivenPath(allow_dash=True),
    multiple=True,
    metavar="FILE|-",
    help="Check rows that cognomen audit export wrote, without an issuer; repeatable, in order.",
)
@click.option(
    "--checkpoint",
    "files",
    type=GivenPath(allow_dash=True),
    multiple=True,
    metavar="FILE|-",
    help="Checkpoints, one a line; repeatable.  [default: the issuer's own, or the export's]",
)
@click.option(
    "--key",
    multiple=True,
    metavar="SHA256|FILE",
    help="The checkpoint key, if you kept it: its thumbprint, or the key in PEM or DER; repeatable.",
)
@click.option(
    "--accept-restore",
    "accepted",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="ROW",
    help="Accept the restore of a backup that this row records; repeatable.",
)
@output_option
@admin_socket_option
def verify(
    exports: tuple[Path, ...],
    files: tuple[Path, ...],
    key: tuple[str, ...],
    accepted: tuple[int, ...],
    output: str,
    socket: Path,
) -> None:
    """Check that no row of the record was edited, deleted or cut off before a checkpoint.

    Take the checkpoints from a place that the issuer's machine cannot change: an attestor's
    checkpoints.jsonl in its state directory, the file of audit_checkpoint_file, or the log
    server. Exit code 1 if something was changed, or if a restored backup lacked rows that a
    checkpoint covers: anyone who can write the store can also claim a restore.

    At the issuer, the ledger and the entries are compared with the record, too. With --file
    nothing is asked of an issuer: whoever has the file and the thumbprint of the checkpoint key
    can do it anywhere. It needs at least one checkpoint, and a file that begins later than row
    1 that of the row before it. After the issuer's keys were lost, name both keys: --key twice.

    \b
    Examples:
      cognomen audit verify
      ssh node cat /var/lib/cognomen/attestor/checkpoints.jsonl \\
        | cognomen audit verify --checkpoint -
      cognomen audit verify --file audit.jsonl --key SHA256
    """  # noqa: D301 - \b is click's mark
    shown = _Shown(pinned=frozenset(map(key_thumbprint, key)))
    given = [_parsed(text) for file in files for text in _lines(file)]
    store = None
    if exports:
        check = _check_exports(exports, given, shown)
        compared = _compared(check, shown.checkpoints, in_file=True)
    else:
        with connect(socket) as admin:
            store = _Store(ledger=LedgerCheck(lambda after: _ledger(admin, after)), entries=EntryCheck())
            check = _check_issuer(admin, given if files else None, shown, store)
            compared = _compared(check, shown.checkpoints)
            _finish(store, admin, check.count)
    _check_restores(check, compared, accepted)
    own = not files and not exports
    found = _Verified(check=check, shown=compared, keys=shown.keys, store=store, own=own, is_pinned=bool(key))
    _print_verified(found, output)


def _check_issuer(admin: Admin, given: Sequence[Checkpoint] | None, shown: _Shown, store: _Store) -> ChainCheck:
    shown.trust_domain = admin.trust_domain.name
    for checkpoint in map(_parsed, _own_checkpoints(admin)) if given is None else given:
        shown.add(checkpoint)
    check = ChainCheck(shown.checkpoints)
    try:
        check.read(store.entries.follow(store.ledger.follow(rows_of(admin, pb.ListAuditRequest()))))
    except ValueError as e:
        raise _changed(str(e)) from e
    return check


def _ledger(admin: Admin, after: int) -> Iterator[pb.Credential]:
    request = pb.ListCredentialsRequest(page_size=_PAGE, page_token=str(after) if after else "", oldest_first=True)
    for page in pages(admin.list_credentials, request, every=True):
        yield from page.credentials


def _entries(admin: Admin) -> Iterator[Mapping[str, JSON]]:
    for page in pages(admin.list_entries, pb.ListEntriesRequest(page_size=_PAGE), every=True):
        yield from map(document_from_message, page.entries)


def _finish(store: _Store, admin: Admin, count: int) -> None:
    try:
        store.ledger.finish(rows_of(admin, pb.ListAuditRequest(after=count)))
        store.entries.finish(_entries(admin), rows_of(admin, pb.ListAuditRequest(after=count)))
    except ValueError as e:
        raise _changed(str(e)) from e


def _check_exports(exports: Sequence[Path], given: Sequence[Checkpoint], shown: _Shown) -> ChainCheck:
    for checkpoint in given:
        shown.add(checkpoint)
    read = read_export(exports)
    first = None
    for item in read:
        if isinstance(item, AuditRow):
            first = item
            break
        shown.add(item)
    check = ChainCheck(shown.checkpoints, begin=_begin(first, shown.checkpoints))
    try:
        for item in chain([] if first is None else [first], read):
            if isinstance(item, AuditRow):
                check.read([item])
            else:
                shown.add(item)
                check.expect(item)
    except ValueError as e:
        raise _changed(str(e), _rest_of_file(e)) from e
    if not any(one.count > check.begin for one in shown.checkpoints):
        raise Refused(
            Kind.INVALID,
            "checkpoints: expected at least one about rows of the file, found none: without one, anybody can write such rows",
            hint="export without filters, which writes them, or name a file of checkpoints: --checkpoint FILE",
        )
    return check


def _begin(first: AuditRow | None, checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
    """The checkpoint that the first row of a file follows; None: the file begins with row 1."""
    before = 0 if first is None else first.number - 1
    if before == 0:
        return None
    begin = next((one for one in checkpoints if one.count == before), None)
    if begin is None:
        raise Refused(
            Kind.INVALID,
            f"file: expected row 1 first, found row {before + 1}",
            hint=f"name the files with the rows before it, too, or add a checkpoint of {before} rows (--checkpoint)",
        )
    return begin


def _compared(
    check: ChainCheck, checkpoints: Iterable[Checkpoint], *, in_file: bool = False
) -> list[tuple[Checkpoint, str]]:
    try:
        each = dict.fromkeys(checkpoints)  # the parts of an export repeat them
        return [(one, check.compare(one)) for one in sorted(each, key=lambda one: one.count)]
    except ValueError as e:
        raise _changed(str(e), _rest_of_file(e) if in_file else "") from e


def _own_checkpoints(admin: Admin) -> Sequence[bytes]:
    return admin.list_checkpoints(pb.ListCheckpointsRequest(page_size=_PAGE)).checkpoints


def _parsed(text: bytes) -> Checkpoint:
    try:
        return Checkpoint.parse(text)
    except ValueError as e:
        raise _changed(str(e)) from e


def _lines(file: Path) -> list[bytes]:
    """The checkpoints in a file; an invalid last line without a newline was cut off while it was written, and is skipped."""
    lines = read_source(str(file)).encode().split(b"\n")
    kept = [line for line in lines if line.strip()]
    for number, line in enumerate(kept, start=1):
        try:
            kept[number - 1] = _unwrapped(line)
            Checkpoint.parse(kept[number - 1])
        except ValueError as e:
            if line is lines[-1]:
                return kept[:-1]
            raise Refused(Kind.INVALID, f"{file} line {number}: {e}") from e
    return kept


def _unwrapped(line: bytes) -> bytes:
    """A line of an attestor's contradictions.jsonl, or of an export, holds the checkpoint's text."""
    try:
        match json_value(line):
            case {"checkpoint": str(text)}:
                return text.encode()
    except ValueError:
        pass
    return line


def _check_restores(check: ChainCheck, shown: list[tuple[Checkpoint, str]], accepted: tuple[int, ...]) -> None:
    for one, text in reversed(shown):
        row = check.lost_by(one)
        if row and row not in accepted:
            raise Refused(
                Kind.CONFLICT,
                f"checkpoint of {moment_in_words(one.at)}: {text}",
                hint=f"if you restored that backup, add --accept-restore {row}; if nobody did, the record was cut off there",
            )


def _changed(what: str, hint: str = "") -> Refused:
    investigate = "the record has been changed: leave the machine as it is, and investigate"
    return Refused(Kind.CONFLICT, what, hint=f"{hint}; otherwise {investigate}" if hint else investigate)


def _rest_of_file(error: ValueError) -> str:
    if not isinstance(error, MissingRowsError):
        return ""
    return f"{REST_OF_FILE.format(error.after)} > PART, and name the files in order"


@dataclass(frozen=True, kw_only=True)
class _Verified:
    """What was found: nothing that was changed.

    Args:
        shown: each checkpoint, and what it shows.
        store: the comparison with the issuer's store; None: there was none.
        own: whether the checkpoints are the issuer's own.
        is_pinned: whether the key is the one that was asked for.
    """

    check: ChainCheck
    shown: list[tuple[Checkpoint, str]]
    keys: set[str]
    store: _Store | None
    own: bool
    is_pinned: bool

    def limits(self) -> Iterator[str]:
        """What this does not prove."""
        count = self.check.count
        last = max((one.count for one, _ in self.shown), default=self.check.begin)
        if count > last:
            yield f"rows {last + 1} to {count} came after the last checkpoint: changing them or cutting them off would not show"
        yield "that every decision was recorded"
        yield "anything against somebody who had the issuer's checkpoint key before a checkpoint left the issuer's machine"
        if self.store is None:
            yield "the ledger, which svid list and audit who read, and the entries: only the issuer has them"
        else:
            yield "of credentials in the ledger: state, key and revocation, which are not on record with them, and node and audiences"
            if self.store.entries.without_text:
                old = counted(self.store.entries.without_text, "entry", "entries")
                yield f"{old} of older releases: no row holds the text, so only the revision was compared"
        if not self.own and not self.is_pinned:
            yield _UNKNOWN_KEY if self.keys else _NO_KEY
        if self.own:
            yield "anything against the issuer's machine itself: these checkpoints come from it"


def _print_verified(found: _Verified, output: str) -> None:
    check = found.check
    checkpoints: list[dict[str, JSON]] = [
        {"at": moment_to_text(one.at), "count": one.count, "shows": text} for one, text in found.shown
    ]
    restores: list[dict[str, JSON]] = [
        {"number": one.number, "at": one.at, "backup_of": one.backup_of} for one in check.restores
    ]
    store = found.store
    limits = list(found.limits())
    if output == "json":
        document: dict[str, JSON] = {"rows": check.count, "first": check.begin + 1, "repeated": check.repeated}
        document["ledger"] = None if store is None else store.ledger.compared
        document["entries"] = None if store is None else store.entries.compared
        document |= {"key": "".join(found.keys), "checkpoints": list(checkpoints), "restores": list(restores)}
        print_json({**document, "not_proved": list(limits)})
        return
    rows = (
        f"{counted(check.count, 'row')}, each" if not check.begin else f"rows {check.begin + 1} to {check.count}, each"
    )
    click.echo(f"{rows} follows from the one before it")
    if check.repeated:
        click.echo(f"{counted(check.repeated, 'row')} came again, with the same bytes")
    if store is not None:
        click.echo(f"{counted(store.ledger.compared, 'credential')} in the ledger, each as it is on record")
        click.echo(f"{counted(store.entries.compared, 'entry', 'entries')}, each as its last change is on record")
    for restore in check.restores:
        print_prose(f"row {restore.number}: {_restore_text(restore)}")
    for one, text in found.shown:
        print_prose(f"checkpoint of {moment_in_words(one.at)}: {text}")
    for key in found.keys:
        click.echo(f"checkpoint key: {key}")
    click.echo("not proved:")
    for limit in limits:
        print_prose(limit, indent="  ")


def _restore_text(restore: Restore) -> str:
    return f"on {restore.at} the issuer went on from a backup of {restore.backup_of or 'an unknown time'}"
