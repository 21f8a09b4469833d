"""The lines of a plan, for people: what comes, changes and goes, what is loosened, and how far it reaches."""

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from functools import partial
from itertools import islice
from typing import TypeVar

import click
from google.protobuf.timestamp_pb2 import Timestamp

from cognomen.cli.cells import text_of, with_relative
from cognomen.cli.entrydiff import in_words
from cognomen.cli.limits import limit_lines
from cognomen.cli.output import counted, warn
from cognomen.cli.plainly import plainly
from cognomen.cli.planfacts import PlanFacts
from cognomen.rulebook.casetests import Outcome
from cognomen.rulebook.compiling import group_path
from cognomen.rulebook.differing import Difference
from cognomen.rulebook.findingplaces import FindingPlaces
from cognomen.rulebook.proving import Finding
from cognomen.rulebook.reviews import is_past_grace, overdue
from cognomen.rulebook.rules import Nodes
from cognomen.wire.admin import document_from_message, moment_to_text
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["print_lines"]

T = TypeVar("T")

_ISSUER, _ITSELF = "/cognomen/issuer", "issuer"
_COLOURS = {"+": "green", "~": "yellow", "-": "red", "!": "magenta", "?": "cyan"}
_MOST = 100  # guard rails and agents that are held; JSON has them all
_MOST_ENDS = 20
_MOST_FILES = 20
_MOST_HEIRS = 3
_MOST_TESTS = 20


def print_lines(found: PlanFacts) -> None:
    """Print the plan, with colours on a terminal unless NO_COLOR is set."""
    plan = found.plan
    _print_warnings(found)
    lines = sorted(_of_entries(found), key=lambda one: one[1])
    lines += [*_of_rules(found), *limit_lines(found.before, found.rulebook)]
    for mark, line in [
        *lines,
        *(() if lines else _of_files(found)),
        *_of_agents(plan),
        *_of_modes(found),
        *_of_guards(found),
        *_of_tests(found),
    ]:
        _print(mark, line)
    counts = found.counts
    in_force = f"revision {plan.in_force} is in force" if plan.in_force else "no rulebook is in force"
    changes = f"{counts['created']} created, {counts['updated']} updated, {counts['deleted']} deleted"
    click.echo(f"entries: {changes}, {plan.unchanged} unchanged; {in_force}")
    for line in _of_reach(plan):
        click.echo(line)


def _print(mark: str, line: str) -> None:
    # https://no-color.org: set to anything but an empty text; click does not look
    click.secho(f"{mark} {line}", fg=_COLOURS[mark], color=False if os.environ.get("NO_COLOR") else None)


def _print_warnings(found: PlanFacts) -> None:
    for warning in found.plan.warnings:
        warn(warning)
    if found.plan.more_warnings:
        warn(f"and {found.plan.more_warnings} more like these")
    today = SystemClock().now().date()
    for agent in overdue(found.rulebook, today):
        then = "; the issuer suspends it within a minute, unless an operator resumed it"
        grace = then if is_past_grace(agent, today) else ""
        warn(f"agent {agent.name}: its review was due on {agent.review_by}; ask {agent.owner}{grace}")


def _of_entries(found: PlanFacts) -> Iterator[tuple[str, str]]:
    groups = {
        group_path(one.nodes): _nodes(one.nodes) for book in (found.before, found.rulebook) for one in book.components()
    }
    for change in found.plan.changes:
        before = _shown(change.before, groups) if change.HasField("before") else None
        after = _shown(change.after, groups) if change.HasField("after") else None
        if after is None:
            assert before is not None  # noqa: S101 - a change has one of the two
            yield "-", _said(before)
        elif before is None:
            yield "+", _said(after)
        else:
            yield "~", f"{before['spiffe_id']}  {in_words(before, after)}"


def _said(entry: Mapping[str, JSON]) -> str:
    if entry["parent_id"] == _ISSUER:
        return f"nodes {entry['spiffe_id']}"
    said = {key: value for key, value in entry.items() if key not in {"spiffe_id", "owner", "labels", "parent_id"}}
    return f"{entry['spiffe_id']}  {in_words(None, said)}; nodes: {entry['parent_id']}"


def _shown(entry: node_pb2.Entry, groups: Mapping[str, str]) -> dict[str, JSON]:
    """An entry with paths for its SPIFFE IDs, and for those of node groups what the rulebook calls these nodes."""
    document = dict(document_from_message(entry))
    own = f"spiffe://{entry.spiffe_id.removeprefix('spiffe://').partition('/')[0]}"
    for key in ("audiences", "callers"):
        if isinstance(ids := document.get(key), list):
            texts = map(str, ids)
            document[key] = [one.removeprefix(own) if one.startswith(f"{own}/") else one for one in texts]
    shown = {key: plainly(value) for key, value in document.items()}
    for key in ("spiffe_id", "parent_id"):
        path = "/" + str(document[key]).removeprefix("spiffe://").partition("/")[2]
        shown[key] = groups.get(path, path)
    return shown


def _nodes(nodes: Nodes) -> str:
    return nodes.path or ", ".join(str(plainly(str(one))) for one in sorted(nodes.selectors)) or "any"


def _of_rules(found: PlanFacts) -> list[tuple[str, str]]:
    """What the entries do not show; of tests, no more than that they change, because they give nobody anything."""
    tests = [one for one in found.differences if one.what == "test"]
    lines = [(_mark(one), _difference(one)) for one in found.differences if one.what != "test"]
    lines += [(_mark(one), f"test {plainly(one.name)}") for one in tests[:_MOST_TESTS]]
    if len(tests) > _MOST_TESTS:
        lines.append(("~", f"and {counted(len(tests) - _MOST_TESTS, 'test')} more"))
    return lines


def _mark(one: Difference) -> str:
    return "+" if one.before is None else "-" if one.after is None else "~"


def _difference(one: Difference) -> str:
    def facts(found: Mapping[str, JSON]) -> dict[str, JSON]:
        return {key: plainly(value) for key, value in found.items()}

    title = f"{one.what} {one.name}".strip()
    if one.before is None or one.after is None:
        return f"{title}  {in_words(None, facts({**(one.before or {}), **(one.after or {})}))}"
    return f"{title}  {in_words(facts({**one.before}), facts({**one.after}))}"


def _of_files(found: PlanFacts) -> Iterator[tuple[str, str]]:
    """Which files are others although they mean the same."""
    names = [*((mark, name) for mark, part in zip("+~-", found.files_by_change, strict=True) for name in part)]
    for mark, name in names[:_MOST_FILES]:
        yield mark, f"file {plainly(name)}  means the same as before"
    if len(names) > _MOST_FILES:
        yield "~", f"and {counted(len(names) - _MOST_FILES, 'file')} more"


def _of_agents(plan: pb.RulebookPlan) -> Iterator[tuple[str, str]]:
    for name in plan.retired:
        yield "-", f"agent {name} is retired for good: no agent ever gets this name again"
    yield from _bounded(
        list(plan.held),
        lambda one: (
            f"{'component' if '/' in one.name else 'agent'} {one.name} is suspended by {_by(one)} ({_holder(one)}):"
            " nothing is issued for it until it is resumed"
        ),
        "agent",
    )
    yield from _bounded(list(plan.lost), _lost, "suspension")


def _lost(one: pb.LostHold) -> str:
    """A suspension whose name the rulebook lacks, and what may be the same by another name."""
    held = one.held
    what = "component" if "/" in held.name else "agent"
    said = f"{held.name} is suspended by {_by(held)} ({_holder(held)}), and the rulebook has no {what} of that name"
    if not one.heirs:
        return said
    shown, more = one.heirs[:_MOST_HEIRS], len(one.heirs[_MOST_HEIRS:]) + one.more_heirs
    names = ", ".join(shown) + (f" and {more} more" if more else "")
    verbs = ("have", "are") if len(shown) > 1 else ("has", "is")
    return f"{said}; {names} {verbs[0]} its selectors and {verbs[1]} not suspended"


def _of_modes(found: PlanFacts) -> Iterator[tuple[str, str]]:
    """Components that only observe, the new ones first."""
    for component, is_new in sorted(found.observed, key=lambda one: not one[1])[:_MOST]:
        yield "?", f"{component.name} only observes{' from now on' if is_new else ''}: nothing is issued for it"
    if len(found.observed) > _MOST:
        yield "?", f"and {counted(len(found.observed) - _MOST, 'component')} more"


def _by(held: pb.HeldAgent) -> str:
    return "the issuer" if held.actor == _ITSELF else "an operator"


def _holder(held: pb.HeldAgent) -> str:
    comment = f": {plainly(held.comment)}" if held.comment else ""
    at = moment_to_text(held.at.ToDatetime(tzinfo=UTC).replace(microsecond=0))
    return f"{held.actor}, {at}{comment}"


def _of_guards(found: PlanFacts) -> Iterator[tuple[str, str]]:
    """Guard rails that components go without, the new ones first."""
    loosened = sorted(found.loosened, key=lambda one: not one.is_new)
    yield from _bounded(loosened, partial(_guard, places=found.places), "guard rail")


def _guard(one: Finding, *, places: FindingPlaces) -> str:
    more = f"; and {one.more} more like this" if one.more else ""
    new = "new: " if one.is_new else ""
    return (
        f"{new}{one.components[0].name} allows {one.guard}: {text_of(one.problem)} ({text_of(places.place(one))}){more}"
    )


def _of_tests(found: PlanFacts) -> Iterator[tuple[str, str]]:
    """The tests that fail; what fails is applied all the same."""
    yield from _bounded(found.failed_tests, _failed, "failed test")


def _failed(one: Outcome) -> str:
    expected, is_found = (", ".join(map(str, sorted(some))) or "nothing" for some in (one.case.expect, one.found))
    why = f"expected {expected}, found {is_found}" if one.case.expect != one.found else "it has other audiences"
    return f"test {plainly(one.case.name)} fails: {text_of(why)}; see: cognomen test RULES"


def _bounded(found: list[T], said: Callable[[T], str], what: str) -> Iterator[tuple[str, str]]:
    for one in islice(found, _MOST):
        yield "!", said(one)
    if len(found) > _MOST:
        yield "!", f"and {counted(len(found) - _MOST, what)} more"


def _of_reach(plan: pb.RulebookPlan) -> Iterator[str]:
    if plan.ended or plan.superseded:
        now, later = counted(plan.ended, "credential"), counted(plan.superseded, "credential")
        yield f"{now} revoked at once, {later} once they are replaced"
    for one in plan.ends[:_MOST_ENDS]:
        yield f"  {_ending(one)}"
    if more := len(plan.ends[_MOST_ENDS:]) + plan.more_ends:
        yield f"  and {counted(more, 'identity', 'identities')} more"
    for each in plan.exchanged:
        until = with_relative(_moment(each.until), SystemClock().now())
        yield f"tokens that were exchanged at {plainly(each.audience)} live until at most {until}: end them there"


def _ending(one: pb.PlannedEnd) -> str:
    path = "/" + one.spiffe_id.removeprefix("spiffe://").partition("/")[2]
    counts = [(one.x509, "X509-SVID"), (one.jwt, "JWT-SVID")]
    said = ", ".join(counted(count, what) for count, what in counts if count)
    later = f" ({one.later} once replaced)" if one.later else ""
    audiences = ", ".join(str(plainly(each)) for each in one.audiences)
    more = f" and {one.more_audiences} more" if one.more_audiences else ""
    until = with_relative(_moment(one.ends_at), SystemClock().now())
    return f"{path}: {said}{later}{f', for {audiences}{more}' if audiences else ''}, valid until {until}"


def _moment(found: Timestamp) -> str:
    return moment_to_text(found.ToDatetime(tzinfo=UTC))
