"""What the commands that run a daemon share: a flag for each key of the configuration, logs, and the event loop.

What the daemons do is decided in issuer/main and attestor/main.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from urllib.parse import quote

import click
import msgspec

from cognomen.cli.emptytext import MAY_BE_EMPTY
from cognomen.cli.options import GivenPath
from cognomen.cli.output import print_document, print_json, warn
from cognomen.daemon.config import is_table
from cognomen.process.standardstreams import LostOutputError
from cognomen.protocol.durations import format_duration
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from svid.encoding import JSON

__all__ = [
    "announce",
    "check_socket_path",
    "config_options",
    "endpoint",
    "print_config",
    "run",
    "warn_of_relative_paths",
]

_PATIENCE_SECONDS = 5.0
_MAX_SOCKET_PATH_BYTES = 107  # sun_path without its NUL

_LEVELS = ["debug", "info", "warning", "error"]


def config_options(
    kind: type[msgspec.Struct], helps: Mapping[str, str], aliases: Mapping[str, str]
) -> list[click.Parameter]:
    """Make --config, --log-level, and one option for each key of a configuration that is not a table.

    Args:
        helps: the help text of each key.
        aliases: a second, shorter flag for a key.
    """
    options: list[click.Parameter] = [
        click.Option(
            ["--config"], type=GivenPath(), help="A TOML file with the configuration; flags override its keys."
        ),
        click.Option(
            ["--log-level"], type=click.Choice(_LEVELS), default="info", show_default=True, help="How much to log."
        ),
    ]
    for field in msgspec.structs.fields(kind):
        if is_table(field.type):
            continue
        flags = [
            f"--{field.name.replace('_', '-')}",
            *([aliases[field.name]] if field.name in aliases else []),
            field.name,
        ]
        shown = str(_shown(field.default)).lower() if field.type is bool else _shown(field.default)
        default = f"  [default: {shown}]" if field.default not in {"", msgspec.NODEFAULT} else ""
        of_text = MAY_BE_EMPTY if field.default == "" else str  # as a key of the file, it can be turned off
        kind_of_value = field.type if field.type in {int, bool} else of_text
        options.append(
            click.Option(flags, type=kind_of_value, metavar=_metavar(field.type), help=f"{helps[field.name]}{default}")
        )
    return options


def _metavar(kind: object) -> str | None:
    """What help shows for the value of a key; None: what click shows."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"[{'|'.join(str(choice.value) for choice in kind)}]"
    return {timedelta: "DURATION", Path: "PATH", bool: "true|false"}.get(kind) if isinstance(kind, type) else None


def print_config(loaded: msgspec.Struct, output: str) -> None:
    """Print every key of a configuration, with the value that the daemon would use.

    Of the settings of plugins only the keys, because a value may be a secret, and only the plugin knows which.
    """
    document: dict[str, JSON] = {}
    for field in msgspec.structs.fields(loaded):
        value = _shown(getattr(loaded, field.name))
        if isinstance(value, Mapping):
            document |= {f"{field.name}.{name}": shown for name, shown in _tables_of(value).items()}
        else:
            document[field.name] = value if isinstance(value, bool | int) else "" if value is None else str(value)
    (print_json if output == "json" else print_document)(document)


def warn_of_relative_paths(loaded: msgspec.Struct) -> None:
    """Warn of paths that depend on the directory in which the daemon starts: a service manager's is not a shell's."""
    for field in msgspec.structs.fields(loaded):
        path = getattr(loaded, field.name)
        if isinstance(path, Path) and not path.is_absolute():
            warn(
                f"{field.name}: {path} is relative to the directory in which the daemon starts; from here it is {path.absolute()}"
            )


def check_socket_path(path: Path) -> Path:
    """Refuse a path that is too long for a Unix socket, before anything starts.

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
    """Write a socket's path in the form of SPIFFE_ENDPOINT_SOCKET."""
    return f"unix://{quote(str(socket))}"


def announce(line: str) -> None:
    """Print the line that says that a daemon is ready; if standard output fails, the daemon keeps running.

    The objects made during the start stay: from here on, the garbage collector skips them.
    """
    import structlog  # noqa: PLC0415 - only daemons need it

    from cognomen.process.collector import keep_pauses_short  # noqa: PLC0415

    keep_pauses_short()
    try:
        click.echo(line)
    except LostOutputError as e:
        structlog.get_logger(__name__).warning("readiness not printed", reason=str(e))


def run(log_level: str, main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Set up logs, keep the memory private, and run a daemon until it ends.

    When it has ended, threads of plugins that never end are waited for no longer than a few seconds.
    """
    import uvloop  # noqa: PLC0415 - only daemons need it

    from cognomen.daemon import logs  # noqa: PLC0415
    from cognomen.process.collector import keep_pauses_short  # noqa: PLC0415
    from cognomen.process.descriptors import raise_descriptor_limit  # noqa: PLC0415
    from cognomen.process.privatememory import keep_memory_private  # noqa: PLC0415

    logs.configure(log_level)
    keep_memory_private()
    raise_descriptor_limit()
    keep_pauses_short()
    with contextlib.ExitStack() as leaving:
        uvloop.run(_ending_soon(main(), leaving))


async def _ending_soon(main: Coroutine[None, None, None], leaving: contextlib.ExitStack) -> None:
    try:
        await main
    except BaseException as e:
        leaving.callback(_leave_after(_PATIENCE_SECONDS, 1, f"{type(e).__name__}: {e}").cancel)
        raise
    leaving.callback(_leave_after(_PATIENCE_SECONDS, 0, "stopped").cancel)


def _leave_after(seconds: float, code: int, why: str) -> threading.Timer:
    """End the process, even if asyncio still waits for a thread of its pool, as it does without an end."""

    def leave() -> None:
        import structlog  # noqa: PLC0415 - only daemons need it

        structlog.get_logger(__name__).error("ended without waiting for threads that do not end", reason=why)
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    return timer


def _tables_of(tables: Mapping[str, object]) -> Mapping[str, str]:
    """Of a table of ours the values, of each plugin's the keys, by what stands before them in the file."""
    found: dict[str, str] = {}
    for key, table in tables.items():
        if isinstance(table, msgspec.Struct):
            found |= {
                f"{key}.{one.name}": str(_shown(getattr(table, one.name))) for one in msgspec.structs.fields(table)
            }
        elif isinstance(table, Mapping):
            found |= {
                f"{key}.{name}": ", ".join(printable(one) for one in keys) or "none" for name, keys in table.items()
            }
    return {printable(name): printable(shown) for name, shown in found.items()}


def _shown(default: object) -> object:
    return format_duration(default) if isinstance(default, timedelta) else default
