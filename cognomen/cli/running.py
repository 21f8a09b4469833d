"""What the commands that run a daemon share: a flag for every key of its configuration, logs, and the event loop.

What the daemons do is decided in issuer/main and attestor/main.
"""

import os
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import click
import msgspec

from cognomen.cli.options import GivenPath
from cognomen.cli.output import print_document, print_json
from cognomen.daemon.config import format_duration
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.standardstreams import LostOutputError
from svid.encoding import JSON

__all__ = ["announce", "check_socket_path", "config_options", "endpoint", "print_config", "run"]

_MAX_SOCKET_PATH_BYTES = 107  # sun_path without its NUL

_LEVELS = ["debug", "info", "warning", "error"]


def config_options(
    kind: type[msgspec.Struct], helps: Mapping[str, str], aliases: Mapping[str, str]
) -> list[click.Parameter]:
    """Make --config, --log-level, and an option for every key of a configuration.

    Args:
        helps: what each key is for.
        aliases: a second, shorter flag for a key.
    """
    options: list[click.Parameter] = [
        click.Option(["--config"], type=GivenPath(), help="A TOML file; flags override its keys."),
        click.Option(
            ["--log-level"], type=click.Choice(_LEVELS), default="info", show_default=True, help="How much to log."
        ),
    ]
    for field in msgspec.structs.fields(kind):
        flags = [
            f"--{field.name.replace('_', '-')}",
            *([aliases[field.name]] if field.name in aliases else []),
            field.name,
        ]
        default = f"  [default: {_shown(field.default)}]" if field.default not in {"", msgspec.NODEFAULT} else ""
        kind_of_value = field.type if field.type in {int, bool} else str
        options.append(click.Option(flags, type=kind_of_value, help=f"{helps[field.name]}{default}"))
    return options


def print_config(loaded: msgspec.Struct, output: str) -> None:
    """Print every key of a configuration as the daemon would have it."""
    document: dict[str, JSON] = {}
    for field in msgspec.structs.fields(loaded):
        value = _shown(getattr(loaded, field.name))
        document[field.name] = value if isinstance(value, bool | int) else "" if value is None else str(value)
    (print_json if output == "json" else print_document)(document)


def check_socket_path(path: Path) -> Path:
    """Refuse a path that no Unix socket can have, before anything is started.

    Raises:
        Refused: INVALID
    """
    length = len(os.fsencode(path.absolute()))
    if length > _MAX_SOCKET_PATH_BYTES:
        raise Refused(
            Kind.INVALID,
            f"socket path: expected at most {_MAX_SOCKET_PATH_BYTES} bytes, found {length}: {path}",
            hint="name a shorter path",
        )
    return path.absolute()


def endpoint(socket: Path) -> str:
    """Write a socket's path as SPIFFE_ENDPOINT_SOCKET has it."""
    return f"unix://{quote(str(socket))}"


def announce(line: str) -> None:
    """Print the line that says that a daemon is ready; a standard output that does not take it ends no daemon."""
    import structlog  # noqa: PLC0415 - only daemons need it

    try:
        click.echo(line)
    except LostOutputError as e:
        structlog.get_logger(__name__).warning("readiness not printed", reason=str(e))


def run(log_level: str, main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Set up logs, keep the memory private, and run a daemon to its end."""
    import uvloop  # noqa: PLC0415 - only daemons need it

    from cognomen.daemon import logs  # noqa: PLC0415
    from cognomen.daemon.collector import keep_pauses_short  # noqa: PLC0415
    from cognomen.daemon.descriptors import raise_descriptor_limit  # noqa: PLC0415
    from cognomen.daemon.privatememory import keep_memory_private  # noqa: PLC0415

    logs.configure(log_level)
    keep_memory_private()
    raise_descriptor_limit()
    keep_pauses_short()
    uvloop.run(main())


def _shown(default: object) -> object:
    return format_duration(default) if isinstance(default, timedelta) else default
