"""`cognomen prove`: what is usually a mistake in a rulebook, each time with the selectors that show it."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import click

from cognomen.cli.cells import text_of
from cognomen.cli.options import output_option
from cognomen.cli.output import counted, print_json, print_prose
from cognomen.cli.rulefiles import rules_and_files, rules_argument
from cognomen.rulebook.findingplaces import FindingPlaces
from cognomen.rulebook.proving import Finding
from cognomen.rulebook.proving import prove as findings_of
from svid.encoding import JSON

__all__ = ["prove"]

_MOST = 1000
_FOUND = 1
_EMPTY: Mapping[str, JSON] = MappingProxyType({"findings": [], "count": 0, "is_cut": False})


@click.command()
@rules_argument
@output_option
def prove(rules: Path, output: str) -> int:
    """Prove that no rule means more than it should.

    RULES is a file, or a folder with files *.toml. No issuer is asked. Each finding is certain
    and comes with the selectors that show it: two components that one process can be, or that
    only the path of a program tells apart; a rule that every user of a node meets; a reasoning
    component that reaches more than its model; an external audience that nobody answers for.

    Of each kind, three findings about a component are shown, and the others are counted. What
    is meant so goes into `allow` of the component; of a finding about two, into that of both.
    The exit code is 1 if anything was found. --output json also has the faults of a rulebook that
    cannot be read.

    \b
    Example:
      cognomen prove rules/
    """  # noqa: D301 - \b is click's mark
    rulebook, files = rules_and_files(rules, empty=_EMPTY if output == "json" else None)
    places = FindingPlaces(files.items())
    found = list(findings_of(rulebook))
    shown, count = found[:_MOST], sum(1 + one.more for one in found)
    if output == "json":
        print_json(
            {
                "findings": [_document(one, places) for one in shown],
                "count": count,
                "is_cut": len(found) > _MOST,
                "faults": [],
            }
        )
    else:
        for one in shown:
            _print(one, places)
        cut = f"; the first {_MOST} are shown" if len(found) > _MOST else ""
        components = sum(1 for _ in rulebook.active())
        click.echo(f"{counted(components, 'component')} of active agents, {counted(count, 'finding')}{cut}")
    return _FOUND if shown else 0


def _document(one: Finding, places: FindingPlaces) -> dict[str, JSON]:
    return {
        "guard": one.guard.value,
        "components": [str(each.name) for each in one.components],
        "selectors": [str(each) for each in sorted(one.selectors)],
        "nodes": [str(each) for each in one.nodes],
        "file": one.components[0].where.file,
        "line": places.line(one),
        "problem": one.problem,
        "mend": one.mend,
        "lacking": [str(each.name) for each in one.lacking],
        "more": one.more,
    }


def _print(one: Finding, places: FindingPlaces) -> None:
    name = one.components[0].name
    print_prose(f"{name}: {text_of(one.problem)} ({one.guard.value}, {text_of(places.place(one))})")
    if one.selectors:
        nodes = " and ".join(map(str, one.nodes))
        shown = " ".join(map(str, sorted(one.selectors)))
        print_prose(f"shown by: {text_of(shown)}, on nodes: {text_of(nodes)}", indent="  ")
    print_prose(f"{one.mend}; if it is meant so: {one.allowance}", indent="  ")
    if one.more:
        print_prose(f"and {counted(one.more, 'finding')} more like this about {name}", indent="  ")
