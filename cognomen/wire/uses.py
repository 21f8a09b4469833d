"""Convert uses of identities between protobuf and values; here are also the limits of what a node may report."""

from dataclasses import replace
from datetime import timedelta

from cognomen.protocol.entry import EntryID
from cognomen.protocol.uses import EntryUse, ReportedUses, short_path
from cognomen.wire.node import duration_from_pb, time_from_pb, time_to_pb
from cognomen.wire.pb import node_pb2 as pb
from svid.errors import SVIDError

__all__ = ["observed_from_pb", "reported_from_pb", "reported_to_pb", "use_from_pb", "use_to_pb"]

_LONGEST = timedelta(days=36_500)
_MOST_ID = 64
_MOST_PATH = 512  # characters; what is longer than MOST_EXECUTABLE bytes is cut, and not refused
_MOST_STARTED = 2**63 - 1  # what a store can keep
_MOST_PROCESSES = 1_000_000_000
_MOST_TIMES = 1_000_000_000  # so that the sum of many fits
_HIGHEST_PID = 2**31 - 1  # a pid_t has a sign
_NOBODY = 2**32 - 1  # in place of a uid or gid: none


def use_to_pb(value: EntryUse) -> pb.Use:
    """Write a use; those that are observed go into a list of their own."""
    message = pb.Use(
        entry_id=value.entry_id,
        uid=value.uid,
        account=value.account,
        gid=value.gid,
        pid=value.pid,
        started=value.started,
        executable=value.executable,
        processes=value.processes,
        first_at=time_to_pb(value.first_at),
        last_at=time_to_pb(value.last_at),
        x509=value.x509,
        jwt=value.jwt,
    )
    if value.is_observed:
        message.times, message.refused_audience = value.times, value.refused_audience
    return message


def observed_from_pb(message: pb.Use) -> EntryUse:
    """Read a use of the list of those that are observed.

    Raises:
        SVIDError: as use_from_pb; or the audience is too long or not printable, or the number of times is none or too large.
    """
    if not 1 <= message.times <= _MOST_TIMES:
        raise SVIDError(f"times: expected 1 to {_MOST_TIMES}, found {message.times}")
    if len(message.refused_audience) > _MOST_PATH or not message.refused_audience.isprintable():
        raise SVIDError(f"refused_audience: expected at most {_MOST_PATH} printable characters")
    audience = short_path(message.refused_audience)
    return replace(use_from_pb(message), is_observed=True, times=message.times, refused_audience=audience)


def use_from_pb(message: pb.Use) -> EntryUse:
    """Read a use.

    Raises:
        SVIDError: a text is missing, too long or not printable; a number is too large, or no uid, gid or pid; one process is said to
            be several; no kind of SVID was given; a time lies outside the calendar; or the last use came before the first.
    """
    if not 0 < len(message.entry_id) <= _MOST_ID:
        raise SVIDError(f"entry_id: expected 1 to {_MOST_ID} characters, found {len(message.entry_id)}")
    if len(message.executable) > _MOST_PATH or not message.executable.isprintable():
        raise SVIDError(f"executable: expected at most {_MOST_PATH} printable characters")
    if not (message.x509 or message.jwt):
        raise SVIDError("x509, jwt: expected at least one kind that was given, found neither")
    _check_process(message)
    first_at, last_at = time_from_pb(message.first_at, "first_at"), time_from_pb(message.last_at, "last_at")
    if first_at > last_at:
        raise SVIDError("last_at: expected a time that is not before first_at")
    return EntryUse(
        entry_id=EntryID(message.entry_id),
        uid=message.uid,
        account=message.account,
        gid=message.gid,
        pid=message.pid,
        started=message.started,
        executable=short_path(message.executable),
        processes=message.processes,
        first_at=first_at,
        last_at=last_at,
        x509=message.x509,
        jwt=message.jwt,
    )


def _check_process(message: pb.Use) -> None:
    for name, number in (("uid", message.uid), ("account", message.account), ("gid", message.gid)):
        if number == _NOBODY:
            raise SVIDError(f"{name}: expected at most {_NOBODY - 1}, found {number}")
    if message.pid > _HIGHEST_PID:
        raise SVIDError(f"pid: expected at most {_HIGHEST_PID}, found {message.pid}")
    if message.started > _MOST_STARTED:
        raise SVIDError(f"started: expected at most {_MOST_STARTED}, found {message.started}")
    most = 1 if message.pid else _MOST_PROCESSES
    if not 1 <= message.processes <= most:
        of = f" with the pid {message.pid}" if message.pid else ""
        raise SVIDError(f"processes: expected 1 to {most}{of}, found {message.processes}")


def reported_to_pb(value: ReportedUses) -> pb.ReportedUses:
    """Write the time of which every use was reported."""
    message = pb.ReportedUses()
    message.since.FromTimedelta(value.since)
    message.until.FromTimedelta(value.until)
    return message


def reported_from_pb(message: pb.ReportedUses) -> ReportedUses:
    """Read the time of which every use was reported.

    Raises:
        SVIDError: it ends before it begins or in the future, or began more than a century ago.
    """
    since, until = duration_from_pb(message.since, "since"), duration_from_pb(message.until, "until")
    if not timedelta() <= until <= since <= _LONGEST:
        raise SVIDError(f"uses: expected until and then since, each from 0 to {_LONGEST.days} days ago")
    return ReportedUses(since=since, until=until)
