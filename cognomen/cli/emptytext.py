"""Empty texts on the command line, as from an unset shell variable: refused for every parameter that does not say that it may be empty."""

import click
from click.core import ParameterSource

__all__ = ["MAY_BE_EMPTY", "refuse_empty"]


class _MayBeEmpty(click.types.StringParamType):
    """A text for which an empty one means something."""


class _NotEmpty(click.types.StringParamType):
    """A text that is not empty where somebody gives one; what is not given keeps its default."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse an empty text: it would name nothing, or everything."""
        is_default = (
            ctx is not None
            and param is not None
            and ctx.get_parameter_source(str(param.name)) is ParameterSource.DEFAULT
        )
        if value == "" and not is_default:
            self.fail("expected a value, found an empty string", param, ctx)
        return str(super().convert(value, param, ctx))


MAY_BE_EMPTY = _MayBeEmpty()
"""The type of a parameter for which an empty text means something: no comment, no owner."""
_NOT_EMPTY = _NotEmpty()


def refuse_empty(command: click.Command) -> None:
    """Make a command, and all below it, refuse an empty text for each parameter that is a plain text."""
    for parameter in command.params:
        if type(parameter.type) is click.types.StringParamType:
            parameter.type = _NOT_EMPTY
    if isinstance(command, click.Group):
        for below in command.commands.values():
            refuse_empty(below)
