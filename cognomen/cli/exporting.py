"""Export the trust bundle: write its file, run the operator's command, and tell the issuer what the relying party has now.

The issuer is told last, and only of what worked: if we end in between, the next run does it again. How the command is run: hook.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect
from cognomen.cli.bundleforms import NO_ISSUER, bundle_text
from cognomen.cli.givenfile import beside
from cognomen.cli.hook import run_hook
from cognomen.cli.output import counted, warn
from cognomen.cli.signals import reap_orphans
from cognomen.process.ownpath import sync
from cognomen.process.wholefile import replace_file, sweep_in
from cognomen.protocol.errors import FileRefused, Kind, Refused
from cognomen.wire.pb import admin_pb2 as pb
from svid.backoff import Backoff
from svid.clock import Clock, SystemClock

__all__ = ["Exporter", "Outcome", "Target", "watch_bundle"]

_LOOK = timedelta(seconds=2)  # between two looks at the bundle
_AGAIN = Backoff(initial=timedelta(seconds=1), maximum=timedelta(minutes=5))  # a provider may count our calls
_QUIET_SECONDS = 30.0  # an issuer that restarts is not worth a warning
_CALL_SECONDS = 30.0
_MAY_PASS = frozenset({Kind.UNAVAILABLE, Kind.EXHAUSTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What goes where.

    Args:
        name: of the relying party.
        form: one of bundleforms.FORMS.
        file: the file that is replaced; None: there is none.
        command: what to run after that; empty: nothing.
        comment: why, for the audit record.
    """

    name: str
    form: str
    file: Path | None
    command: tuple[str, ...]
    comment: str = ""

    def digest(self, document: bytes) -> str:
        """SHA-256 of a document and of where it goes: another file or command means that it was not exported there yet."""
        place = json.dumps([self.form, str(self.file.absolute()) if self.file else "", *self.command])
        return hashlib.sha256(place.encode() + b"\0" + document).hexdigest()

    def check(self) -> None:
        """Check that its file can be written, before we ask anybody for anything.

        Raises:
            Refused: it cannot.
        """
        if self.file is not None:
            with beside(self.file):
                pass


class Outcome(StrEnum):
    """What became of one look at the bundle."""

    EXPORTED = "exported"
    UNCHANGED = "unchanged"
    FAILED = "failed"


class Exporter:
    """Exports the bundle to one target when it has changed since the last success, of this process or of the one before it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._handed_over: str | None = None  # the digest of the last success; None: nobody has looked yet
        self._is_warned = False
        self._told: tuple[str, frozenset[str]] = "", frozenset()  # of which digest and authorities the issuer knows

    def __call__(self, admin: Admin) -> Outcome:
        """Export the bundle if it has changed, and tell the issuer; a command that fails is reported.

        Raises:
            Refused: as the issuer refuses; CONFLICT when the name belongs to another format; as the file cannot be written.
        """
        target = self._target
        # 1. What did somebody export before us, and what is there to export? In this order, so that ours is never older.
        known, found = self._known(admin), admin.get_bundle()
        document = bundle_text(found, target.form).encode()
        digest = target.digest(document)
        if self._handed_over is None:
            self._handed_over = "" if known is None else known.digest
            self._told = self._handed_over, frozenset(() if known is None else known.key_ids)
        elif known is not None and digest == self._handed_over and frozenset(known.key_ids) != self._told[1]:
            self._handed_over = ""
            warn(f"{target.name}: somebody else exported other keys by this name; exporting them again")
        # 2. Write it, and hand it over.
        if target.file is not None:
            _keep(target.file, document)
        if digest != self._handed_over and not run_hook(target.command, self._environment(), document, of=target.name):
            with contextlib.suppress(Refused):  # an issuer that does not answer hears of the next failure
                admin.note_failed_export(pb.NoteFailedExportRequest(name=target.name))
            return Outcome.FAILED
        self._handed_over = digest
        # 3. Tell the issuer, also if it has forgotten.
        if known is not None and (digest, frozenset(known.key_ids)) == self._told:
            return Outcome.UNCHANGED
        self._told = digest, self._tell(admin, found, digest)
        return Outcome.EXPORTED

    def _known(self, admin: Admin) -> pb.Export | None:
        target = self._target
        known = next((one for one in admin.list_exports().exports if one.name == target.name), None)
        if known is not None and known.format != target.form:
            raise Refused(
                Kind.CONFLICT,
                f"--name: {target.name} is an export of the format {known.format}, found {target.form}",
                hint="give this one another --name; or, if that one has ended:"
                f" cognomen bundle forget-export {target.name}",
            )
        return known

    def _environment(self) -> dict[str, str]:
        target = self._target
        told = {"COGNOMEN_EXPORT": target.name}
        return told if target.file is None else told | {"COGNOMEN_FILE": str(target.file.absolute())}

    def _tell(self, admin: Admin, found: pb.GetBundleResponse, digest: str) -> frozenset[str]:
        target = self._target
        request = pb.RecordExportRequest(
            name=target.name, format=target.form, key_ids=found.key_ids, digest=digest, comment=target.comment
        )
        if target.form == "jwks" and not found.jwt_issuer and not self._is_warned:
            self._is_warned = True
            warn(f"{target.name}: JWT-SVIDs have {NO_ISSUER}")
        own = next(one for one in admin.record_export(request).exports if one.name == target.name)
        names = f": {' '.join(own.key_ids)}" if own.key_ids else ""
        click.echo(f"{target.name}: exported {counted(len(own.key_ids), 'authority', 'authorities')}{names}", err=True)
        return frozenset(own.key_ids)


def watch_bundle(exporter: Exporter, socket: Path) -> None:
    """Export the bundle now and after each change, until a signal ends us; wait while the issuer or the disk does not answer.

    Raises:
        Refused: waiting does not help.
    """
    waiting, delays = _Waiting(SystemClock()), _AGAIN.delays(_jitter)
    while True:
        try:
            with connect(socket, seconds=_CALL_SECONDS) as admin:
                is_well = exporter(admin) is not Outcome.FAILED
        except Refused as e:
            if e.kind not in _MAY_PASS:
                raise
            waiting.tell(e)
            _rest(_LOOK)
            continue
        waiting.over()
        if is_well:
            delays = _AGAIN.delays(_jitter)
        _rest(_LOOK if is_well else next(delays))


class _Waiting:
    """Reports once what a watch waits for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._well_at: float | None = None
        self._told = ""

    def tell(self, refused: Refused) -> None:
        """Report it, unless it was reported; a restart of the issuer is over before that."""
        since = 0.0 if self._well_at is None else self._clock.monotonic() - self._well_at
        is_quiet = self._well_at is not None and since < _QUIET_SECONDS and not isinstance(refused, FileRefused)
        if refused.detail != self._told and not is_quiet:
            self._told = refused.detail
            warn(f"{refused.detail}; waiting for it")

    def over(self) -> None:
        """Note that it has come."""
        self._well_at, self._told = self._clock.monotonic(), ""


def _keep(path: Path, document: bytes) -> None:
    """Write a file that everybody may read, completely and durably, unless it is there already.

    Raises:
        FileRefused: it cannot be written; its old contents then stay.
        Refused: somebody else may write its directory or one above.
    """
    with beside(path) as directory:
        if _has(directory, path.name, document):
            return
        sweep_in(directory, path.name)
        replace_file(directory, path.name, document, mode=0o644)
        sync(directory)


def _has(directory: int, name: str, document: bytes) -> bool:
    """Whether the file is there, as we wrote it."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
            return stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.read(len(document) + 1) == document
    except FileNotFoundError:
        return False
    except OSError as e:
        if e.errno == errno.ELOOP:  # a link, which we replace
            return False
        raise


def _rest(length: timedelta) -> None:
    """Sleep in short parts, so that orphans are reaped, and that time counts while the machine sleeps."""
    clock = SystemClock()
    end = clock.monotonic() + length.total_seconds()
    while (left := end - clock.monotonic()) > 0:
        time.sleep(min(left, 0.5))
        reap_orphans()


def _jitter() -> float:
    return secrets.randbelow(1000) / 1000
