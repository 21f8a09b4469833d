"""What somebody may have meant by a command or an option that there is not: only what is really alike, and what help lists."""

import difflib
import re
from collections.abc import Iterable, Iterator

import click

from cognomen.cli.options import Renamed

__all__ = ["similar"]

_NO_COMMAND = re.compile(r"No such command '(.+)'\.", re.DOTALL)
_ALIKE = 0.7  # of the letters; click is content with 0.6, of which the dashes are a third
_LEAST_BEGINNING = 3
_MOST = 3


def similar(error: click.ClickException) -> list[str]:
    """The commands or options that are like the one that was not found, the most alike first; none for another error."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return []
    if isinstance(error, click.NoSuchOption):
        return _alike(error.option_name, _shown(context.command))
    found = _NO_COMMAND.fullmatch(error.message)
    if found is None or not isinstance(context.command, click.Group):
        return []
    return _alike(found[1], context.command.list_commands(context))


def _alike(text: str, names: Iterable[str]) -> list[str]:
    bare = {name.lstrip("-"): name for name in names}
    typed = text.lstrip("-")
    begun = [name for name in bare if len(typed) >= _LEAST_BEGINNING and name.startswith(typed)]
    close = difflib.get_close_matches(typed, bare, n=_MOST, cutoff=_ALIKE)
    return [bare[name] for name in dict.fromkeys([*close, *begun])][:_MOST]


def _shown(command: click.Command) -> Iterator[str]:
    """The options that help lists: of one that was renamed, its present name."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            names = (
                parameter.opts[:1] if isinstance(parameter, Renamed) else [*parameter.opts, *parameter.secondary_opts]
            )
            yield from (name for name in names if name.startswith("--"))
