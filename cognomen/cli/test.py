"""`cognomen test`: run the tests that stand beside the rules."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import click

from cognomen.cli.cells import text_of
from cognomen.cli.options import output_option
from cognomen.cli.output import counted, print_json
from cognomen.cli.rulefiles import rules_and_files, rules_argument
from cognomen.rulebook.casetests import Outcome, run
from svid.encoding import JSON

__all__ = ["test"]

_FAILED = 1
_EMPTY: Mapping[str, JSON] = MappingProxyType({"cases": [], "failed": 0})


@click.command()
@rules_argument
@output_option
def test(rules: Path, output: str) -> int:
    """Run the tests of a rulebook.

    RULES is a file, or a folder with files *.toml. No issuer is asked. A test is a table
    [[case]]: what a node and a process show, and the identities that the process must get.
    The exit code is 1 if one fails.

    \b
    Example:
      cognomen test rules/
    """  # noqa: D301 - \b is click's mark
    outcomes = list(run(rules_and_files(rules, empty=_EMPTY if output == "json" else None)[0]))
    failed = [one for one in outcomes if not one.is_good]
    if output == "json":
        print_json({"cases": [_document(one) for one in outcomes], "failed": len(failed), "faults": []})
    else:
        for one in failed:
            _print(one)
        click.echo(f"{counted(len(outcomes), 'test')}, {len(failed)} failed")
    return _FAILED if failed else 0


def _document(one: Outcome) -> dict[str, JSON]:
    return {
        "name": one.case.name,
        "is_good": one.is_good,
        "expected": [str(name) for name in sorted(one.case.expect)],
        "found": [str(name) for name in sorted(one.found)],
        "audiences": sorted(one.audiences),
    }


def _print(one: Outcome) -> None:
    click.echo(f"failed: {text_of(one.case.name)} ({text_of(one.case.where.file)})")
    if one.found != one.case.expect:
        click.echo(f"  expected {_listed(one.case.expect)}, found {_listed(one.found)}")
    if one.case.audiences not in (None, one.audiences):
        click.echo(f"  expected audiences {_listed(one.case.audiences or ())}, found {_listed(one.audiences)}")


def _listed(names: object) -> str:
    assert isinstance(names, frozenset | tuple)  # noqa: S101 - narrows the type
    return text_of(", ".join(sorted(map(str, names)))) if names else "nothing"
