"""`cognomen plan`: what applying a rulebook would change."""

from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import GivenPath, admin_socket_option, output_option
from cognomen.cli.planned import plan_of, print_plan, save_plan
from cognomen.cli.planreach import ask_option, reach_of
from cognomen.cli.rulefiles import rules_argument

__all__ = ["plan"]

_CHANGES = 2


@click.command()
@rules_argument
@click.option("--save", type=GivenPath(), metavar="FILE", help="Also write the plan into this file, for apply.")
@click.option("--let-expire", is_flag=True, help="Leave what it takes away valid until it expires.")
@ask_option
@output_option
@admin_socket_option
def plan(rules: Path, save: Path | None, output: str, socket: Path, *, let_expire: bool, ask: bool) -> int:
    """Show what applying a rulebook would change, and change nothing.

    RULES is a file, or a folder with files *.toml. The lines begin with + for what comes, ~ for
    what changes, - for what goes, ? for a component that only
    observes, and ! for a guard rail that a component does without, an agent that an operator
    suspended, or a test that fails. Below them are the live credentials that would be
    revoked. A rulebook owns the entries below /agent and /rulebook/nodes, and no others.

    The connected nodes whose entries it changes are asked which programs would gain or lose
    an identity right now. They have 2 s; those that do not answer are named.

    The exit code is 2 if applying it would leave a new revision, and 0 if nothing at all would
    change. Wrong usage is 2 as well, and then prints no plan: a script also looks whether there
    is one. --output json has everything.

    \b
    Examples:
      cognomen plan rules/
      cognomen plan rules/ --save plan.json
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = plan_of(admin, rules, let_expire=let_expire)
        if save is not None:
            save_plan(found, admin.trust_domain.name, save)
        reach = reach_of(admin, found, ask=ask)
    print_plan(found, output, reach)
    return _CHANGES if found.has_changes else 0
