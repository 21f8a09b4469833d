"""Revoke what a command names, wait until that is enforced, and report the outcome.

The commands are in cli/revoke. What is printed about a revocation: cli/revocations.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ParamSpec

import click

from cognomen.cli.admin import Admin, connect
from cognomen.cli.named import unknown_holder
from cognomen.cli.naming import full_ids
from cognomen.cli.options import admin_socket_option, comment_option, duration, output_option, reason_option
from cognomen.cli.output import View, counted, print_json, warn
from cognomen.cli.revocations import enforcement_of, is_everywhere, print_fallen, said_of, tell_enforcement
from cognomen.cli.signals import heed_ctrl_c
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import Nameable
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON

__all__ = ["ends"]

P = ParamSpec("P")

_CALL_SECONDS = 300.0
_LONGEST = timedelta(days=1)

_OPTIONS = (
    reason_option,
    comment_option,
    click.option("--dry-run", is_flag=True, help="Only show what would be revoked."),
    click.option(
        "--wait",
        type=duration,
        is_flag=False,
        flag_value="10s",
        metavar="[DURATION]",
        help="Wait until every enforcement point enforces it; exit code 3 if some do not in time, or nodes are away.  [10s]",
    ),
    output_option,
    admin_socket_option,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """The options that every revoking command has."""

    reason: str
    comment: str
    dry_run: bool
    wait: timedelta | None
    output: str
    socket: Path


def ends(group: click.Group, name: str) -> Callable[[Callable[P, pb.RevocationTarget]], click.Command]:
    """Turn a function that says what its arguments name into a command of a group, with the options that all such commands have."""

    def command_of(target_of: Callable[P, pb.RevocationTarget]) -> click.Command:
        @functools.wraps(target_of)
        def run(
            reason: str,
            comment: str,
            dry_run: bool,
            wait: timedelta | None,
            output: str,
            socket: Path,
            *arguments: P.args,
            **named: P.kwargs,
        ) -> None:
            order = _Order(reason=reason, comment=comment, dry_run=dry_run, wait=wait, output=output, socket=socket)
            _revoke(target_of(*arguments, **named), order)

        command = group.command(name)(run)
        for option in _OPTIONS:
            option(command)
        return command

    return command_of


def _revoke(target: pb.RevocationTarget, order: _Order) -> None:
    if order.dry_run and order.wait is not None:
        raise click.UsageError("expected --dry-run or --wait, found both")
    if order.wait is not None and order.wait > _LONGEST:  # before anything is revoked
        raise click.UsageError(f"expected a --wait of at most a day, found {order.wait}")
    try:
        done, view = _ask(target, order)
    except Refused as refused:
        if order.wait is None or refused.kind is not Kind.UNAVAILABLE:
            raise
        # Exit code 3 must mean only one thing: revoked, but not enforced everywhere. INTERNAL ends with 1.
        hint = f"nothing is known to be revoked: {refused.hint or 'cognomen revoke list'}"
        raise Refused(Kind.INTERNAL, refused.detail, hint=hint) from refused
    if order.wait is not None:
        heed_ctrl_c()  # before anything is told: whoever reads it may interrupt at once
    _report(done, order, view)


def _report(done: pb.RevokeResponse, order: _Order, view: View) -> None:
    document: dict[str, JSON] = document_from_message(done)
    status = None
    try:
        if order.output != "json":
            print_fallen(done, view)
        if order.output != "json" or order.wait is not None:
            click.echo(said_of(done, dry_run=order.dry_run), err=True)
        if order.wait is not None:
            status = _await(done.revocation.number, order.wait, order.socket)
            document["enforcement"] = enforcement_of(status)
    finally:  # print what was done even if somebody interrupts the waiting
        if order.output == "json":
            print_json(document)
    if status is not None:
        _tell(status, done.revocation.number, order.output)


def _ask(target: pb.RevocationTarget, order: _Order) -> tuple[pb.RevokeResponse, View]:
    with connect(order.socket, seconds=_CALL_SECONDS) as admin:
        view = admin.view(order.output)
        is_past = target.kind != "node"  # what was signed for others can be revoked after they are gone
        target.entry_ids[:] = full_ids(admin, Nameable.ENTRY, target.entry_ids, past=is_past)
        target.node_ids[:] = full_ids(admin, Nameable.NODE, target.node_ids, past=is_past)
        target.serials[:] = full_ids(admin, Nameable.CREDENTIAL, target.serials)
        if target.HasField("spiffe_id"):
            target.spiffe_id = str(admin.complete_id(target.spiffe_id))
        request = pb.RevokeRequest(target=target, reason=order.reason, comment=order.comment, dry_run=order.dry_run)
        _warn_of_narrow(admin, target)
        return admin.revoke(request), view


def _warn_of_narrow(admin: Admin, target: pb.RevocationTarget) -> None:
    """Warn of a SPIFFE ID that nobody has alone: somebody may mean those below it, or another one. It is blocked all the same."""
    if target.kind != "spiffe-id" or _count(admin, target):
        return
    wider = pb.RevocationTarget(kind=target.kind, spiffe_id=target.spiffe_id, below=True)
    if not target.below and (count := _count(admin, wider)):
        warn(f"nothing valid has this SPIFFE ID alone; with --below, {counted(count, 'credential')} would be revoked")
    elif refusal := unknown_holder(admin, target.spiffe_id, below=target.below):
        warn(f"{refusal.detail} ({refusal.hint})")


def _count(admin: Admin, target: pb.RevocationTarget) -> int:
    """How many credentials a target would end now."""
    return admin.revoke(pb.RevokeRequest(target=target, dry_run=True)).revocation.denied


def _await(number: int, wait: timedelta, socket: Path) -> pb.RevocationStatus:
    with connect(socket, seconds=_CALL_SECONDS + wait.total_seconds()) as admin:
        request = pb.AwaitRevocationRequest(number=number)
        request.longest.FromTimedelta(wait)
        return admin.await_revocation(request)


def _tell(status: pb.RevocationStatus, number: int, output: str) -> None:
    """Report the outcome of waiting; fail if some do not enforce the revocation."""
    if output != "json":
        tell_enforcement(status)
    if not is_everywhere(status):
        raise Refused(
            Kind.UNAVAILABLE,
            f"wait: expected revocation {number} enforced everywhere, found"
            f" {status.enforcing} of {status.attestors} attestors,"
            f" {status.points_enforcing} of {status.points} enforcement points; nodes away: {status.away}",
            hint=f"to follow it: cognomen revoke show {number}",
        )
