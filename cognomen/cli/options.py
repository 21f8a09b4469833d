"""Options and types of values that several commands share."""

import os
import re
from collections.abc import Sequence
from copy import copy
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import quote

import click

from cognomen.cli.emptytext import MAY_BE_EMPTY
from cognomen.protocol.durations import parse_duration
from cognomen.protocol.errors import FileRefused, Kind
from cognomen.protocol.selector import Selector
from svid.clock import SystemClock
from svid.errors import AddressError, SVIDError

__all__ = [
    "GivenPath",
    "Labels",
    "Renamed",
    "SocketPath",
    "admin_socket_option",
    "attestor_socket_option",
    "comment_option",
    "duration",
    "every_page_option",
    "moment",
    "named_audience",
    "output_option",
    "page_size_option",
    "page_token_option",
    "read_source",
    "reason_option",
    "selector",
    "strict_option",
    "workload_address",
    "workload_socket_option",
]

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MARK = "denied"  # what `fetch` writes beside the files of an identity that was taken away
_MAX_SOURCE_BYTES = 256 * 1024 * 1024


class GivenPath(click.Path):
    """A path that is not empty; pathlib would take an empty one for the current directory.

    Whether it can be read is found when it is: click would end with 2, like wrong usage and like a plan that changes something.

    Args:
        allow_dash: whether `-` means a standard stream.
    """

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(path_type=Path, allow_dash=allow_dash, readable=False)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Accept any path but an empty one."""
        if value == "":
            self.fail("expected a path, found an empty string", param, ctx)
        return super().convert(value, param, ctx)


class SocketPath(GivenPath):
    """The path of a Unix socket, also in the form of SPIFFE_ENDPOINT_SOCKET: unix:///PATH."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Accept either form."""
        return super().convert(value.removeprefix("unix://") if isinstance(value, str) else value, param, ctx)


class Renamed(click.Option):
    """An option with several names, of which help shows the first; the others are those that it had before."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line of the help."""
        return click.Option.get_help_record(self._shown(), ctx)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Its name in an error message."""
        return click.Option.get_error_hint(self._shown(), ctx)

    def _shown(self) -> Self:
        shown = copy(self)
        shown.opts = self.opts[:1]
        return shown


def _label(text: str) -> tuple[str, str]:
    """Parse key=value."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"expected key=value, found {text!r}")
    return key, value


def _each_once(
    _context: click.Context, _parameter: click.Parameter, labels: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Refuse a label that is given twice, because one of the two would be lost."""
    keys = [key for key, _ in labels]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise click.BadParameter(f"expected each key once, found {twice[0]!r} twice")
    return labels


def _label_or_none(text: str) -> tuple[str, str]:
    """Parse key=value; an empty text is a label without a key, of which the caller makes no labels."""
    return _label(text) if text else ("", "")


class Labels(click.Option):
    """--label, any number of times, each key once.

    Args:
        may_be_empty: whether an empty text means no labels; it is then the label ("", "").
    """

    def __init__(self, names: Sequence[str], *, help: str, may_be_empty: bool = False) -> None:  # noqa: A002 - click calls it so
        of_text = _label_or_none if may_be_empty else _label
        super().__init__(names, type=of_text, multiple=True, callback=_each_once, metavar="KEY=VALUE", help=help)


def named_audience(text: str) -> tuple[str, str]:
    """Parse NAME=AUDIENCE: a file, without its directory, and whom its token is for."""
    name, equals, audience = text.partition("=")
    if not equals or not _FILE.fullmatch(name) or name == _MARK:
        raise click.BadParameter(
            f"expected NAME=AUDIENCE, with a NAME of at most 64 of A-Z a-z 0-9 . _ -, found {text!r}"
        )
    if not audience:
        raise click.BadParameter(f"expected an audience after {name}=, found an empty text: {text!r}")
    return name, audience


output_option = click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "wide", "json"]),
    default="table",
    show_default=True,
    help="Print what matters, everything (wide), or JSON for programs.",
)
admin_socket_option = click.option(
    "--socket",
    type=SocketPath(),
    envvar="COGNOMEN_ADMIN_SOCKET",
    show_envvar=True,
    default="/run/cognomen/admin/issuer.sock",
    show_default=True,
    help="The issuer's admin socket.",
)
workload_socket_option = click.option(
    "--socket",
    metavar="ADDRESS",
    help="The Workload API's socket: unix:///PATH, or an absolute path.  [default: SPIFFE_ENDPOINT_SOCKET]",
)
attestor_socket_option = click.option(
    "--socket",
    metavar="ADDRESS",
    envvar="SPIFFE_ENDPOINT_SOCKET",
    default="unix:///run/cognomen/api.sock",
    show_default=True,
    show_envvar=True,
    help="The attestor's workload socket.",
)
page_size_option = click.option(
    "--page-size",
    "--limit",
    cls=Renamed,
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="How many to show at most.",
)
page_token_option = click.option(
    "--page-token",
    "--after",
    cls=Renamed,
    type=MAY_BE_EMPTY,
    default="",
    help="Continue after the last page: its next_page_token.",
    metavar="TOKEN",
)
_REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
reason_option = click.option(
    "--reason",
    type=click.Choice(_REASONS),
    metavar="REASON",
    default="unspecified",
    show_default=True,
    help=f"The reason, as in RFC 5280: {', '.join(_REASONS)}.",
)
comment_option = click.option("--comment", type=MAY_BE_EMPTY, default="", help="A note for the audit record.")
strict_option = click.option(
    "--strict", is_flag=True, help="Refuse the entries if the issuer would warn of their selectors."
)
every_page_option = click.option("--all", "every_page", is_flag=True, help="Show all pages.")


def workload_address(text: str | None) -> str | None:
    """Turn an absolute path into the URI of the Unix socket there.

    Raises:
        AddressError: the text is neither a URI nor an absolute path.
    """
    if text is None or ":" in text.partition("/")[0]:
        return text
    if not text.startswith("/"):
        raise AddressError(f"socket: expected unix:///PATH, tcp://IP:PORT or an absolute path, found {text!r}")
    return f"unix://{quote(text)}"


def duration(text: str) -> timedelta:
    """Parse a duration such as 90s, 30m, 1h, 1d."""
    try:
        return parse_duration(text)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e


def selector(text: str) -> Selector:
    """Parse type:value."""
    try:
        return Selector.parse(text)
    except SVIDError as e:
        raise click.BadParameter(str(e)) from e


def moment(text: str) -> datetime:
    """Parse a moment such as 2026-11-23T08:00:00Z, or now."""
    if text == "now":
        return SystemClock().now()
    from cognomen.wire.admin import moment_from_text  # noqa: PLC0415 - loads protobuf, which --help need not

    try:
        return moment_from_text(text)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e


def read_source(name: str) -> str:
    """Read a text from a file, or from standard input if the name is `-`.

    Raises:
        FileRefused: it cannot be read.
        click.UsageError: there is no such file, or it is no text.
    """
    try:
        with click.open_file(name, "rb") as file:
            data = bytes(file.read(_MAX_SOURCE_BYTES + 1))
        text = data.decode()
    except FileNotFoundError as e:
        raise click.UsageError(f"{name}: no such file or directory") from e
    except OSError as e:
        raise FileRefused(Kind.UNAVAILABLE, f"{name}: {(e.strerror or str(e)).lower()}") from e
    except UnicodeDecodeError as e:
        raise click.UsageError(f"{name}: expected UTF-8 text") from e
    if len(data) > _MAX_SOURCE_BYTES:
        raise click.UsageError(f"{name}: expected at most {_MAX_SOURCE_BYTES} bytes, found more")
    return text
