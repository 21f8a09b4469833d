"""`cognomen agent suspend|resume|retire|owner`: who answers for an agent, and the commands that count whatever the rulebook says."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

from cognomen.cli.admin import Admin, connect
from cognomen.cli.inforce import InForce, in_force, line_of_key
from cognomen.cli.options import admin_socket_option, comment_option, output_option
from cognomen.cli.output import Columns, View, counted, print_json, print_table, warn
from cognomen.cli.plainly import plainly
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.suggesting import suggestion
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON

__all__ = ["owner", "resume", "retire", "suspend"]

_ISSUER = "issuer"
_OWNERS = Columns(
    table=("owner", "from", "until", "revision", "actor"),
    wide=("owner", "from", "until", "revision", "actor", "login", "comment"),
)


@click.command()
@click.argument("name", metavar="AGENT[/COMPONENT]")
@comment_option
@admin_socket_option
def suspend(name: str, comment: str, socket: Path) -> None:
    """Suspend an agent, or one component of it, at once, whatever the rulebook says.

    Its identities are revoked, and nothing more is signed for it, through each rulebook that is
    applied later, until `agent resume`. That is so for an agent, too, that the issuer suspended
    because its review was due: then a later review_by does not resume it.

    The command warns of plain entries that its programs still match: these belong to no rulebook,
    so they stay.

    \b
    Examples:
      cognomen agent suspend concierge --comment "it books flights to nowhere"
      cognomen agent suspend concierge/crm
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        held = {one.name: one for one in admin.list_held_agents().agents}
        done = admin.suspend_agent(pb.AgentRequest(name=name, comment=comment))
    if (before := held.get(name)) is None:
        click.echo(f"{name}: suspended; {_ended(done)}")
    else:
        click.echo(f"{name}: was already suspended by {said_before(before)}; {_ended(done)}")
    _warn_of_left(name, done)


def said_before(held: pb.HeldAgent) -> str:
    """Who had suspended it, and what suspending it again changes."""
    who = f"{held.actor} ({held.comment})" if held.comment else held.actor
    if held.actor == _ISSUER and held.review_by:
        return f"the {who}, and now by an operator, too: a later review_by does not resume it any more"
    return f"{'the ' if held.actor == _ISSUER else ''}{who}, which stays as it is"


@click.command()
@click.argument("name", metavar="AGENT[/COMPONENT]")
@comment_option
@admin_socket_option
def resume(name: str, comment: str, socket: Path) -> None:
    """End a suspension of that agent or component: what the rulebook says counts again.

    An agent that the issuer suspended because its review was due is not suspended again for
    that review.

    \b
    Example:
      cognomen agent resume concierge --comment "fixed in PR 12"
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        done = admin.resume_agent(pb.AgentRequest(name=name, comment=comment))
    click.echo(f"{name}: resumed; {counted(done.created, 'entry', 'entries')} created")


@click.command()
@click.argument("name")
@click.option("--force", "--now", "at_once", is_flag=True, help="Even if it is active.")
@comment_option
@admin_socket_option
def retire(name: str, comment: str, socket: Path, *, at_once: bool) -> None:
    """Retire an agent for good: its identities end, and no agent ever has its name again.

    This cannot be undone, so it is refused while the agent is active: suspend it first, and see
    that nobody misses it. Everything that is left of it is revoked at once.

    The rulebook is not changed. Set state = "retired" in it, or take the agent out: a rulebook
    that has it in another state is not planned or applied any more, and the refusal names the
    line to change.

    \b
    Example:
      cognomen agent retire concierge --comment "its contract ended"
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        done = admin.retire_agent(pb.AgentRequest(name=name, comment=comment, at_once=at_once))
        click.echo(f"{name}: retired for good; {_ended(done)}")
        _warn_of_left(name, done)
        found = in_force(admin)
    agent = found.rulebook.agents.get(name)
    if agent is not None and agent.state.value != "retired":
        click.echo(f'say so in the rulebook: state = "retired" ({line_of_key(found, agent, "state")})')


def _warn_of_left(name: str, done: pb.AgentResponse) -> None:
    """Warn of plain entries that still give an identity to its programs: no command about agents ends them."""
    for entry in done.left:
        document = document_from_message(entry)
        path, parent = (
            plainly("/" + str(document[key]).removeprefix("spiffe://").partition("/")[2])
            for key in ("spiffe_id", "parent_id")
        )
        selectors = ", ".join(f"{one.type}:{one.value}" for one in entry.selectors)
        warn(
            f"programs of {name} still get {path} by a plain entry below {parent} ({plainly(selectors)});"
            f" to end it: cognomen entry delete {entry.id}"
        )
    if done.left_more:
        warn(f"and by {counted(done.left_more, 'more entry', 'more entries')}")
    if done.left_cut:
        warn(f"programs of {name} may get other identities by plain entries: not all entries were looked at")


def _ended(done: pb.AgentResponse) -> str:
    return f"{counted(done.deleted, 'entry', 'entries')} deleted, {counted(done.ended, 'credential')} revoked"


@click.command()
@click.argument("name")
@output_option
@admin_socket_option
def owner(name: str, output: str, socket: Path) -> None:
    """Show who answers for an agent, and who did before.

    Each line is an owner, from which moment until which: the rulebook that named it, its
    revision, and who applied that; the newest first.

    No command changes an owner. It is changed where the rules are reviewed, in the rulebook: the
    last line names the file and the line.

    \b
    Example:
      cognomen agent owner concierge
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = in_force(admin)
        owners = list(_owners(admin, found.applied, name))
    if not owners:
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: no rulebook ever had one called {name!r}",
            hint=suggestion(name, found.rulebook.agents) or "list them: cognomen agent list",
        )
    agent = found.rulebook.agents.get(name)
    place = "" if agent is None else line_of_key(found, agent, "owner")
    if output == "json":
        print_json({"name": name, "owners": list(owners), "changed_in": place})
        return
    print_table(_OWNERS, owners, View(output=output))
    click.echo(_what_to_do(found, name, place))


def _what_to_do(found: InForce, name: str, place: str) -> str:
    if (gone := found.retired.get(name)) is not None:
        return f"{name} is retired: nobody answers for it any more, and no agent has its name again ({gone.at.ToDatetime():%Y-%m-%d})"
    if not place:
        return f"the rulebook in force, revision {found.applied.revision}, has no agent {name}"
    return f"to change it: the key owner in {place}, then cognomen plan RULES"


def _owners(admin: Admin, newest: pb.Rulebook, name: str) -> Iterator[dict[str, JSON]]:
    """Who answered for an agent, newest first; revisions in which nothing about that changed are one."""
    known: dict[str, str | None] = {}
    later, until = newest, None
    for number in range(newest.revision - 1, -1, -1):
        earlier = admin.get_rulebook(pb.GetRulebookRequest(revision=number)) if number else None
        now, before = _owner_in(later, name, known), None if earlier is None else _owner_in(earlier, name, known)
        if now != before:
            document = document_from_message(later)
            if now is not None:
                yield {
                    "owner": now,
                    "from": document["at"],
                    "until": until,
                    **{key: document[key] for key in ("revision", "actor", "login", "comment")},
                }
            until = document["at"]
        if earlier is not None:
            later = earlier


def _owner_in(applied: pb.Rulebook, name: str, known: dict[str, str | None]) -> str | None:
    """Who answers for an agent in this rulebook; None: it has no such agent. Files are read once, however many rulebooks have them."""
    for text in applied.files.values():
        if text not in known:
            known[text] = _owner_in_file(text, name)
        if (found := known[text]) is not None:
            return found
    return None


def _owner_in_file(text: str, name: str) -> str | None:
    if name not in text and "\\" not in text:  # most files are about other agents
        return None
    match tomllib.loads(text):
        case {"agent": {**agents}} if isinstance(agent := agents.get(name), dict):
            return str(agent.get("owner"))
    return None
