"""`cognomen agent review`: what the owners of agents have to look at, and the same as signed evidence, which can be verified anywhere."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.cells import text_of
from cognomen.cli.checkpointkey import key_thumbprint
from cognomen.cli.givenfile import write_given
from cognomen.cli.options import GivenPath, admin_socket_option, comment_option, duration, output_option, read_source
from cognomen.cli.output import Columns, View, counted, print_json, print_prose, print_table, warn
from cognomen.cli.reviewshape import check_shape
from cognomen.protocol.agentreview import SignedReview
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON, json_value

__all__ = ["review"]

_COMPONENTS = Columns(
    table=("agent", "component", "state", "use", "last_fetched", "broad"),
    wide=(
        *("agent", "component", "kind", "state", "suspended_by", "review_by", "on_overdue"),
        *("use", "last_minted", "last_fetched", "broad", "purpose"),
    ),
)
_RETIRED = Columns(
    table=("agent", "owner", "by", "comment"), wide=("agent", "owner", "at", "by", "revision", "comment")
)
_UNUSED_FOR = "30d"
_NOT_THE_KEY = "that the key above is the issuer's: only --key compares it with one that you know"

_Document = Mapping[str, JSON]


@click.command()
@click.option(
    "--unused-for",
    type=duration,
    default=_UNUSED_FOR,
    show_default=True,
    help="How long an identity that counts as unused was not used.",
)
@click.option("--export", "export", type=GivenPath(), metavar="FILE", help="Also write it into this file, signed.")
@click.option(
    "--verify",
    "given",
    type=GivenPath(allow_dash=True),
    metavar="FILE|-",
    help="Check and show one that was exported, without an issuer.",
)
@click.option(
    "--key",
    multiple=True,
    metavar="SHA256|FILE",
    help="With --verify: the key that signs audit checkpoints, as `audit verify` takes it; repeatable.",
)
@comment_option
@output_option
@admin_socket_option
def review(
    unused_for: timedelta,
    export: Path | None,
    given: Path | None,
    key: tuple[str, ...],
    comment: str,
    output: str,
    socket: Path,
) -> None:
    """Show what the owners of agents have to look at.

    By owner, the components of their agents: whether somebody used their identity in that time,
    when it was last fetched (as attestors report it) and minted (as the ledger has it), and which
    rules are broad: any-node is a rule for every node, the others are guard rails that a component
    goes without. Then overdue reviews, and the agents that are retired.

    "unused" is certain; where a node did not report its uses in all of that time, it is "not
    known", and a warning names the node. "new" is younger than that.

    --export signs it with the key of the audit checkpoints. It names issuer, trust domain, revision
    and digest of the rulebook, the time, and the last row of the audit record. Whoever has the
    file and the key's thumbprint (`audit verify` prints it) verifies it anywhere.

    \b
    Examples:
      cognomen agent review --unused-for 60d
      cognomen agent review --export review.json --comment "for the auditor"
      cognomen agent review --verify review.json --key SHA256
    """  # noqa: D301 - \b is click's mark
    if given is not None:
        if export is not None:
            raise click.UsageError("expected --export or --verify, found both")
        _verify(given, key, output)
        return
    if key:
        raise click.UsageError("expected --key with --verify, found it alone")
    with connect(socket) as admin:
        if export is None:
            request = pb.GetAgentReviewRequest()
            request.unused_for.FromTimedelta(unused_for)
            document: _Document = _object(json_value(admin.get_agent_review(request).document))
        else:
            asked = pb.ExportAgentReviewRequest(comment=comment)
            asked.unused_for.FromTimedelta(unused_for)
            text = admin.export_agent_review(asked).document
            signed = SignedReview.parse(text)
            write_given(export, text, mode=0o600)
            document = signed.document
    _print(document, output)
    if export is not None:
        click.echo(f"{export}: signed by the checkpoint key {signed.key_thumbprint}", err=True)


def _verify(given: Path, key: Sequence[str], output: str) -> None:
    pinned = frozenset(map(key_thumbprint, key))
    try:
        signed = SignedReview.parse(read_source(str(given)).encode())
    except ValueError as e:
        raise Refused(Kind.INVALID, f"{given}: {e}") from e
    try:
        signed.check_signature()
    except ValueError as e:
        raise Refused(
            Kind.CONFLICT, f"{given}: {e}", hint="the file was changed since the issuer signed it: ask for it again"
        ) from e
    if pinned and signed.key_thumbprint not in pinned:
        expected = " or ".join(sorted(pinned))
        raise Refused(
            Kind.CONFLICT,
            f"{given}: expected the key {expected}, found {signed.key_thumbprint}",
            hint="the file is another issuer's, or was made by somebody else; after the issuer lost its keys, name both: --key, repeated",
        )
    _check_shape(signed, given)
    if output == "json":
        not_proved: list[JSON] = [] if pinned else [_NOT_THE_KEY]
        ours: dict[str, JSON] = {"key": signed.key_thumbprint, "not_proved": not_proved}
        print_json({**ours, **{key: value for key, value in signed.document.items() if key not in ours}})
        return
    click.echo(f"checkpoint key: {signed.key_thumbprint}")
    if not pinned:  # before anything that whoever signed it wrote
        click.echo("not proved:")
        print_prose(_NOT_THE_KEY, indent="  ")
    click.echo(f"signed at {text_of(signed.document['at'])}")
    _print(signed.document, output)


def _check_shape(signed: SignedReview, given: Path) -> None:
    try:
        check_shape(signed)
    except ValueError as e:
        raise Refused(Kind.INVALID, f"{given}: {e}") from e


def _print(document: _Document, output: str) -> None:
    if output == "json":
        print_json(document)
        return
    silent = [str(one) for one in _list(document, "not_reporting")]
    if silent:
        warn(f"nodes that did not report all uses in that time: {', '.join(silent)}")
    view = View(output=output)
    owners = _objects(document, "owners")
    agents = [one for owner in owners for one in _objects(owner, "agents")]
    name, revision, unused_for = (text_of(document[key]) for key in ("trust_domain", "revision", "unused_for"))
    click.echo(
        f"{name}, revision {revision}: {counted(len(agents), 'agent')} of {counted(len(owners), 'owner')},"
        f" unused means for {unused_for}"
    )
    for owner in owners:
        click.echo(f"\n{text_of(owner['owner'])}")
        print_table(_COMPONENTS, [row for one in _objects(owner, "agents") for row in _rows(one)], view)
        for one in _objects(owner, "agents"):
            if one["is_overdue"]:
                click.echo(f"{text_of(one['agent'])}: its review was due on {text_of(one['review_by'])}")
            for line in _suspensions(one):
                click.echo(text_of(line))
    retired = _objects(document, "retired")
    if retired:
        click.echo("\nretired:")
        print_table(_RETIRED, retired, view)


def _rows(agent: _Document) -> Iterator[dict[str, JSON]]:
    for one in _objects(agent, "components"):
        broad: list[JSON] = [each["finding"] for each in _objects(one, "broad")]
        yield {**agent, **one, "broad": broad}


def _suspensions(agent: _Document) -> Iterator[str]:
    """Who suspended it, and who one of its components alone."""
    whole = (agent["suspended_by"], agent["suspended_because"])
    if agent["suspended_by"]:
        yield _suspension(agent["agent"], *whole)
    for one in _objects(agent, "components"):
        alone = (one.get("suspended_by"), one.get("suspended_because"))  # a review of an older release has neither
        if one.get("suspended_by") and alone != whole:
            yield _suspension(f"{agent['agent']}/{one['component']}", *alone)


def _suspension(name: JSON, by: JSON, because: JSON) -> str:
    return f"{name}: suspended by {by} {because}".rstrip()


def _objects(document: _Document, key: str) -> list[dict[str, JSON]]:
    return [_object(one) for one in _list(document, key)]


def _list(document: _Document, key: str) -> Sequence[JSON]:
    found = document.get(key)
    if not isinstance(found, list):
        raise Refused(Kind.INVALID, f"review: {key}: expected a list")
    return found


def _object(value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise Refused(Kind.INVALID, "review: expected an object")
    return value
