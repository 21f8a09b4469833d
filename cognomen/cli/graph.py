"""`cognomen graph`: who may call whom by a rulebook."""

from pathlib import Path

import click

from cognomen.cli.rulefiles import rules_argument, rules_from
from cognomen.rulebook.graph import as_dot, as_lines

__all__ = ["graph"]


@click.command()
@rules_argument
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "dot"]),
    default="text",
    show_default=True,
    help="text: a line for each component; dot: for Graphviz.",
)
def graph(rules: Path, kind: str) -> None:
    """Show who may call whom by a rulebook, and which audiences outside each component reaches.

    RULES is a file, or a folder with files *.toml. No issuer is asked.

    \b
    Examples:
      cognomen graph rules/
      cognomen graph rules/ --format dot | dot -Tsvg > graph.svg
    """  # noqa: D301 - \b is click's mark
    rulebook = rules_from(rules)
    for line in as_dot(rulebook) if kind == "dot" else as_lines(rulebook):
        click.echo(line)
