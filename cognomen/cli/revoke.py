"""`cognomen revoke`: revoke credentials, block new ones, and see who enforces it.

What each command does once it knows its target: cli/ending.
"""

from datetime import datetime

import click

from cognomen.cli.ending import ends
from cognomen.cli.named import warn_if_never_matches
from cognomen.cli.options import Renamed, moment, read_source, selector
from cognomen.cli.revocations import lift, list_revocations, show
from cognomen.cli.serials import serial_from_text
from cognomen.protocol.selector import Selector
from cognomen.wire.node import selector_to_pb
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["revoke"]


@click.group()
def revoke() -> None:
    """Revoke credentials by SVID, entry, SPIFFE ID, selector or node.

    Every connected verifier refuses a revoked credential within a quarter of a second, other
    verifiers once they have read the CRL. It expires at its usual time in any case.

    With --wait, the command reports what was revoked before it waits. Exit code 3 then means
    that it is revoked, but not known to be enforced everywhere; 1 means that the issuer could
    not be reached.
    """


@ends(revoke, "svid")
@click.argument("serials", metavar="[SERIAL|JTI]...", nargs=-1)
@click.option(
    "--from", "source", metavar="FILE", help="Read serials and jtis from a file, one a line; - is standard input."
)
def _svid(serials: tuple[str, ...], source: str | None) -> pb.RevocationTarget:
    """Revoke these SVIDs; workloads that still match get a new one at once, for a fresh key.

    All processes that match one entry on one node share one X509-SVID, so it is revoked for
    all of them. `cognomen svid list` shows serials and jtis.

    \b
    Examples:
      cognomen revoke svid 81a21c36058f7f927323df0b8e9fb56d \\
        --reason keyCompromise --wait
      cognomen svid list --node-id ID --kind x509 --live --all -o json \\
        | jq -r .credentials[].serial \\
        | cognomen revoke svid --from -
    """  # noqa: D301 - \b is click's mark
    if bool(serials) is (source is not None):
        raise click.UsageError(f"expected serials or --from, found {'both' if serials else 'neither'}")
    if source is not None:
        serials = tuple(line for line in map(str.strip, read_source(source).splitlines()) if line)
    return pb.RevocationTarget(kind="svid", serials=map(serial_from_text, serials))


@ends(revoke, "issued-before")
@click.argument("before", metavar="TIME", type=moment)
@click.option(
    "--entry-id",
    "--entry",
    "entry_ids",
    cls=Renamed,
    multiple=True,
    metavar="ID",
    help="Only what was signed for this entry; repeatable.",
)
@click.option(
    "--node-id",
    "--node",
    "node_ids",
    cls=Renamed,
    multiple=True,
    metavar="NODE",
    help="Only what was signed for this node: its id, name or SPIFFE ID; repeatable.",
)
@click.option(
    "--spiffe-id",
    metavar="ID|/PATH",
    help="Only what has this SPIFFE ID; /PATH is one in the trust domain.",
)
def _issued_before(
    before: datetime, entry_ids: tuple[str, ...], node_ids: tuple[str, ...], spiffe_id: str | None
) -> pb.RevocationTarget:
    """Revoke every SVID signed until then; workloads that still match get a new one at once.

    \b
    Example:
      cognomen revoke issued-before 2026-11-23T08:00:00Z --dry-run
    """  # noqa: D301 - \b is click's mark
    target = pb.RevocationTarget(kind="issued-before", entry_ids=entry_ids, node_ids=node_ids, spiffe_id=spiffe_id)
    target.before.FromDatetime(before)
    return target


@ends(revoke, "entry")
@click.argument("entry_ids", metavar="ID...", nargs=-1, required=True)
def _entry(entry_ids: tuple[str, ...]) -> pb.RevocationTarget:
    """Revoke all that was signed for these entries, and sign nothing more for them until `revoke lift`.

    \b
    Example:
      cognomen revoke entry ID --comment "task ended" --wait
    """  # noqa: D301 - \b is click's mark
    return pb.RevocationTarget(kind="entry", entry_ids=entry_ids)


@ends(revoke, "spiffe-id")
@click.argument("spiffe_id", metavar="ID|/PATH")
@click.option("--below", is_flag=True, help="Include every SPIFFE ID below it.")
def _spiffe_id(spiffe_id: str, below: bool) -> pb.RevocationTarget:
    """Revoke every SVID of a SPIFFE ID, and sign nothing more for it until `revoke lift`.

    This also applies to entries that are created later.

    \b
    Example:
      cognomen revoke spiffe-id /agent/concierge --below \\
        --reason privilegeWithdrawn
    """  # noqa: D301 - \b is click's mark
    return pb.RevocationTarget(kind="spiffe-id", spiffe_id=spiffe_id, below=below)


@ends(revoke, "selector")
@click.argument("named", metavar="TYPE:VALUE", type=selector)
def _selector(named: Selector) -> pb.RevocationTarget:
    """Revoke all that was signed for entries or nodes with a selector, and sign nothing more until `revoke lift`.

    \b
    Example:
      cognomen revoke selector unix:path:/opt/agents/browser
    """  # noqa: D301 - \b is click's mark
    warn_if_never_matches(named)
    return pb.RevocationTarget(kind="selector", selector=selector_to_pb(named))


@ends(revoke, "node")
@click.argument("node_ids", metavar="NODE...", nargs=-1, required=True)
def _node(node_ids: tuple[str, ...]) -> pb.RevocationTarget:
    """Ban nodes, and revoke their SVIDs and all that was signed for their workloads.

    A NODE is its id, its name or its SPIFFE ID.

    Their feeds and calls end at once, and they cannot come back as these nodes; cognomen node
    ban --help says what their machines can do.

    \b
    Example:
      cognomen revoke node web-1 --reason keyCompromise --comment "stolen disk"
    """  # noqa: D301 - \b is click's mark
    return pb.RevocationTarget(kind="node", node_ids=node_ids)


for _command in (list_revocations, show, lift):
    revoke.add_command(_command)
