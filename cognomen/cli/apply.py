"""`cognomen apply`: apply a rulebook, exactly as planned."""

from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import GivenPath, admin_socket_option, comment_option, output_option
from cognomen.cli.output import print_json
from cognomen.cli.planned import apply_planned, plan_of, print_plan, saved_plan
from cognomen.cli.planreach import ask_option, reach_of
from cognomen.wire.admin import document_from_message

__all__ = ["apply"]


@click.command()
@click.argument("rules", metavar="RULES|PLAN", type=GivenPath())
@click.option("--let-expire", is_flag=True, help="Leave what it takes away valid until it expires.")
@ask_option
@comment_option
@output_option
@admin_socket_option
def apply(rules: Path, comment: str, output: str, socket: Path, *, let_expire: bool, ask: bool) -> None:
    """Apply a rulebook, and show what it changes.

    RULES is a file, or a folder with files *.toml; PLAN is what `plan --save` wrote. All of it
    is one step, which reaches the nodes at once. It is refused if the rulebook in force or its
    entries were changed since the plan was made.

    \b
    Examples:
      cognomen apply rules/ --comment "$(git rev-parse HEAD)"
      cognomen apply plan.json
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = saved_plan(admin, rules) or plan_of(admin, rules, let_expire=let_expire)
        reach = reach_of(admin, found, ask=ask and output != "json")
        done = apply_planned(admin, found, comment)
    if output == "json":
        print_json(dict(document_from_message(done)))
        return
    print_plan(found, output, reach)
    click.echo(f"revision {done.revision} is in force now")
