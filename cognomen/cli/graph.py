"""`cognomen graph`: who may call whom by a rulebook."""

from pathlib import Path

import click

from cognomen.cli.rulefiles import rules_argument, rules_from
from cognomen.rulebook.graph import as_dot, as_lines
from cognomen.rulebook.svg import as_svg

__all__ = ["graph"]

_FORMATS = {"text": as_lines, "dot": as_dot, "svg": as_svg}


@click.command()
@rules_argument
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "dot", "svg"]),
    default="text",
    show_default=True,
    help="text: a line for each component; dot: for Graphviz; svg: a picture of up to 200 boxes.",
)
def graph(rules: Path, kind: str) -> None:
    """Show who may call whom by a rulebook, and which audiences outside each component reaches.

    RULES is a file, or a folder with files *.toml. No issuer is asked.

    \b
    Examples:
      cognomen graph rules/
      cognomen graph rules/ --format svg > graph.svg
      cognomen graph rules/ --format dot | dot -Tpdf > graph.pdf
    """  # noqa: D301 - \b is click's mark
    rulebook = rules_from(rules)
    for line in _FORMATS[kind](rulebook):
        click.echo(line)
