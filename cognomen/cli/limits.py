"""Limits on issuance, as commands show them: how they stand, and what a plan changes of them."""

from collections.abc import Iterator
from pathlib import Path

from cognomen.cli.admin import connect
from cognomen.cli.output import Columns
from cognomen.rulebook.limits import LimitedScope, limit_changes
from cognomen.rulebook.rules import Rulebook
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON

__all__ = ["LIMITS", "limit_lines", "limits_of_agent"]

LIMITS = Columns(
    table=("path", "limit", "most", "used", "mode", "breaker", "over", "last_over"),
    wide=("path", "limit", "most", "used", "mode", "on_burst", "breaker", "since", "until", "over", "last_over"),
)


def limits_of_agent(socket: Path, name: str) -> list[dict[str, JSON]]:
    """How the limits of an agent and its components stand."""
    with connect(socket) as admin:
        found = admin.list_limits(pb.ListLimitsRequest(agent=name))
    return [dict(document_from_message(one)) for one in found.limits]


def limit_lines(before: Rulebook, after: Rulebook) -> Iterator[tuple[str, str]]:
    """What a plan changes of the limits: lines with their mark, which is +, ~ or -.

    Args:
        before: the rulebook in force; an empty one: there is none.
    """
    for change in limit_changes(before, after):
        old, new = _words(change.before), _words(change.after)
        if change.before is None:
            yield "+", f"{change.path}  limits: {new}"
        elif change.after is None:
            yield "-", f"{change.path}  limits: {old}"
        else:
            yield "~", f"{change.path}  limits: {old} → {new}"


def _words(one: LimitedScope | None) -> str:
    if one is None:
        return ""
    most = ", ".join(f"{key} = {one.most[key]}" for key in sorted(one.most))
    return f"{most} ({one.mode.value}, on burst {one.on_burst.value})"
