"""`cognomen completion`: what a shell needs to complete the command."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that makes a shell complete this command.

    \b
    Examples:
      cognomen completion bash > ~/.local/share/bash-completion/completions/cognomen
      cognomen completion fish > ~/.config/fish/completions/cognomen.fish
    """  # noqa: D301 - \b is click's mark
    kind = get_completion_class(shell)
    if kind is None:  # of a shell that is among the choices
        raise click.UsageError(f"shell: {shell} is not known to click")
    click.echo(kind(context.find_root().command, {}, "cognomen", "_COGNOMEN_COMPLETE").source())
