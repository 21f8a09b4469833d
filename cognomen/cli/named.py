"""What a filter names: refused, or warned of, if there can be nothing of it. An empty answer must not hide a slip of the fingers.

What an id means is found in naming.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches

import click

from cognomen.cli.admin import Admin
from cognomen.cli.asking import is_unknown
from cognomen.cli.output import warn
from cognomen.cli.uses import warn_of_start
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import Nameable
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import never_matches
from cognomen.wire.admin import moment_to_text
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from svid.clock import SystemClock
from svid.spiffeid import SpiffeID

__all__ = [
    "check_holders",
    "check_not_future",
    "check_parent",
    "unknown_holder",
    "warn_if_never_matches",
    "warn_of_beginnings",
]

_COMPARED = 1000  # entries among which a similar one is looked for


def check_not_future(**times: datetime | None) -> None:
    """Refuse a time that has not come yet: nobody can know what will be true then."""
    now = SystemClock().now()
    for option, at in times.items():
        if at is not None and at > now:
            raise click.UsageError(f"expected a --{option} that is not in the future, found {moment_to_text(at)}")


def check_holders(admin: Admin, request: pb.ListCredentialsRequest) -> None:
    """Refuse a SPIFFE ID of which nothing was ever signed and that no entry has, or an owner that no entry has.

    Raises:
        Refused: NOT_FOUND
    """
    if refusal := unknown_holder(admin, request.spiffe_id, below=request.below):
        raise refusal
    if request.owner and not admin.list_entries(pb.ListEntriesRequest(page_size=1, owner=request.owner)).entries:
        known = (one.owner for one in _some(admin))
        raise Refused(
            Kind.NOT_FOUND,
            f"owner: no entry has the owner {request.owner!r} now",
            hint=_similar(request.owner, known) or "list the entries with their owners: cognomen entry list -o wide",
        )


def unknown_holder(admin: Admin, spiffe_id: str, *, below: bool) -> Refused | None:
    """The refusal of a SPIFFE ID of which nothing was ever signed and that no entry has or had.

    Args:
        below: the same must be true of every one below it.
    """
    if not spiffe_id:
        return None
    asked = pb.ListEntriesRequest(page_size=1, spiffe_id=spiffe_id, below=below)
    signed = pb.ListCredentialsRequest(page_size=1, spiffe_id=spiffe_id, below=below)
    if admin.list_entries(asked).entries or admin.list_credentials(signed).credentials:
        return None
    if _is_on_record(admin, Nameable.ENTRY, spiffe_id):
        return None
    path = SpiffeID.parse(spiffe_id).path or "/"
    known = (SpiffeID.parse(one.spiffe_id).path for one in _some(admin))
    what = f"the SPIFFE ID {path} or one below it" if below else f"the SPIFFE ID {path}"
    return Refused(
        Kind.NOT_FOUND,
        f"spiffe_id: no entry has {what}, and nothing was signed for it",
        hint=_similar(path, known) or "list the entries: cognomen entry list",
    )


def check_parent(admin: Admin, parent_id: str) -> None:
    """Refuse a parent of which there is no entry, and which is no node, no node group and not the issuer.

    Raises:
        Refused: NOT_FOUND
    """
    if _is_on_record(admin, Nameable.NODE, parent_id):
        return
    issuer = f"spiffe://{admin.trust_domain}/cognomen/issuer"
    group = pb.ListEntriesRequest(page_size=1, spiffe_id=parent_id, parent_id=issuer)
    if parent_id != issuer and not admin.list_entries(group).entries:
        raise Refused(
            Kind.NOT_FOUND,
            f"parent_id: no node or node group is {parent_id}, and no entry has this parent",
            hint="list the nodes: cognomen node list; the node groups: cognomen entry list --parent /cognomen/issuer",
        )


def warn_if_never_matches(named: Selector) -> None:
    """Warn of a selector that nothing can have; entries of earlier releases may still name it."""
    if expected := never_matches(named):
        warn(f"selector: expected {expected}, found {str(named)!r}, which matches nothing")


def warn_of_beginnings(admin: Admin, moment: datetime) -> None:
    """Warn if the ledger, or the record of uses, begins only after that moment."""
    oldest = admin.list_credentials(pb.ListCredentialsRequest(page_size=1, oldest_first=True)).credentials
    for first in oldest:
        began = first.issued_at.ToDatetime(tzinfo=UTC)
        if began > moment:
            warn(
                f"the ledger begins at {moment_to_text(began.replace(microsecond=0))}: nothing is known of the time before"
            )
            return
    warn_of_start(admin.list_uses(pb.ListUsesRequest(page_size=1)).uses_since, moment)


def _is_on_record(admin: Admin, kind: Nameable, spiffe_id: str) -> bool:
    """Whether something of that kind has or had this very SPIFFE ID; an issuer of an earlier release cannot say, and so it may."""
    try:
        found = admin.resolve(pb.ResolveRequest(kind=kind, texts=[spiffe_id], past=True)).meanings
    except Refused as e:
        if not is_unknown(e):
            raise
        return True
    return any(one.spiffe_id == spiffe_id for each in found for one in each.meanings)


def _some(admin: Admin) -> Iterator[node_pb2.Entry]:
    yield from admin.list_entries(pb.ListEntriesRequest(page_size=_COMPARED)).entries


def _similar(text: str, known: Iterator[str]) -> str:
    found = get_close_matches(text, {one for one in known if one}, n=1)
    return f"did you mean {found[0]}?" if found else ""
