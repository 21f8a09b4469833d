"""What an import tells beside the rulebook: what it left out and why, and what the operator does next."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import click

from cognomen.cli.cells import text_of
from cognomen.cli.output import counted
from cognomen.rulebook.given import Choices, LeftOut
from cognomen.rulebook.importing import Imported
from cognomen.rulebook.parents import LABEL
from cognomen.rulebook.unanswered import is_unanswered

__all__ = ["left_out_lines", "notes", "print_lines"]

_MOST_REASONS = 100
_MOST_PLACES = 10
_INDENT = "  "


def print_lines(lines: Iterable[str]) -> None:
    """Print them on standard error; what is in them controls no terminal."""
    for line in lines:
        indent = _INDENT if line.startswith(_INDENT) else ""
        click.echo(indent + text_of(line.removeprefix(indent)), err=True)


def left_out_lines(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """What is left out; the same reason once, with its places."""
    by_reason: defaultdict[tuple[str, str], list[LeftOut]] = defaultdict(list)
    for one in left_out:
        by_reason[one.reason, one.mend].append(one)
    if left_out:
        yield f"left out: {counted(len(left_out), 'entry', 'entries')}"
    for (reason, mend), each in list(by_reason.items())[:_MOST_REASONS]:
        yield f"{reason}; {mend}" if mend else reason
        yield from (f"  {one.what} ({one.where})" for one in each[:_MOST_PLACES])
        if len(each) > _MOST_PLACES:
            yield f"  and {len(each) - _MOST_PLACES} more"
    if len(by_reason) > _MOST_REASONS:
        yield f"and {len(by_reason) - _MOST_REASONS} more reasons"


def notes(found: Imported, choices: Choices) -> Iterator[str]:
    """What the rulebook says otherwise than the entries did, and what is to be done."""
    entries = counted(len(found.placed), "entry", "entries")
    components = counted(sum(1 for _ in found.rulebook.components()), "component")
    yield f"imported: {entries} as {components} of {counted(len(found.rulebook.agents), 'agent')}"
    free = {one.name for one in found.placed if one.entry.audiences is None}
    if free:
        yield (
            f"{counted(len(free), 'component')} could get JWT-SVIDs for anybody, and by the rulebook for nobody:"
            " write may_call, model and audiences"
        )
    for name in found.mixed_labels:
        yield f"the labels of the entries of {name} differ, and an agent has one set of them: write them in"
    for name in found.mixed_owners:
        yield f"the owners of the entries of {name} differ, and an agent has one: {found.rulebook.agents[name].owner}"
    labels = sorted(
        {str(s) for one in found.placed for s in one.nodes.selectors if s.value.startswith(f"label:{LABEL}:")}
    )
    if labels and choices.other_nodes is None:
        yield f"invite the nodes of {counted(len(labels), 'SPIRE agent')} with a label each:"
        for one in labels[:_MOST_PLACES]:
            yield f"  cognomen node invite --label {LABEL}={one.split(':', 3)[3]}"
        if len(labels) > _MOST_PLACES:
            yield f"  and {len(labels) - _MOST_PLACES} more"
    for alias in found.unused[:_MOST_PLACES]:
        yield f"no entry is on the nodes of {alias.spiffe_id.path} ({alias.where}): they are not in the rulebook"
    if todo := sum(map(is_unanswered, found.rulebook.agents.values())):
        yield f"{counted(todo, 'agent')} without an owner or a purpose: write them in place of each TODO"
