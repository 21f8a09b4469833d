"""`cognomen completion`: print a completion script for a shell."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that lets your shell complete this command.

    \b
    Examples:
      cognomen completion bash \\
        > ~/.local/share/bash-completion/completions/cognomen
      cognomen completion fish > ~/.config/fish/completions/cognomen.fish
    """  # noqa: D301 - \b is click's mark
    kind = get_completion_class(shell)
    if kind is None:  # cannot happen: the shell is one of the choices
        raise click.UsageError(f"shell: {shell} is not supported by click")
    click.echo(kind(context.find_root().command, {}, "cognomen", "_COGNOMEN_COMPLETE").source())
