"""`cognomen`: the root of the command, how its failures are told, and its exit codes.

Commands are imported when they are called, so that `--help` does not wait for gRPC and the daemons.
"""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import own_what_we_make
from cognomen.daemon.standardstreams import LostOutputError, own_streams
from svid.errors import AddressError, SVIDError, WorkloadAPIError

__all__ = ["main", "run"]

_COMMANDS = {
    "dev": "issuer and attestor on this machine, in one command",
    "issuer": "the issuer: decides, signs, remembers",
    "attestor": "the node's daemon: serves the SPIFFE Workload API",
    "status": "how the issuer and the attestor are",
    "why": "why a process has an identity, or none",
    "node": "invite nodes, and look at those that joined",
    "entry": "registration entries: which workload gets which SPIFFE ID",
    "authority": "the keys that sign, and when the next ones take over",
    "bundle": "the trust bundle",
    "svid": "the ledger of every credential that was signed",
    "revoke": "end credentials before their time, and block who must get no more",
    "audit": "the record of decisions, and whether it is whole",
    "fetch": "be a workload: fetch SVIDs and bundles",
    "validate": "be a service: validate what a peer shows",
    "completion": "a script that makes a shell complete this command",
}

_FAILED, _USAGE, _UNAVAILABLE, _NOT_FOUND, _DENIED = 1, 2, 3, 4, 5
_INTERRUPTED = 130
_BROKEN_PIPE = 141
_EXIT_CODES = {
    Kind.UNAVAILABLE: _UNAVAILABLE,
    Kind.NOT_FOUND: _NOT_FOUND,
    Kind.DENIED: _DENIED,
    Kind.UNAUTHENTICATED: _DENIED,
}
_NO_ANSWER = (
    "has the attestor there joined, and does it reach its issuer? its log says so; a working one now: cognomen dev"
)
_NO_IDENTITY = (
    "no entry fits this process: cognomen why says what is missing; or a revocation blocks it:"
    " ask the operator (cognomen why with the admin socket, cognomen revoke list)"
)
_WORKLOAD_API = {
    "UNAVAILABLE": (_NO_ANSWER, _UNAVAILABLE),
    "DEADLINE_EXCEEDED": (_NO_ANSWER, _UNAVAILABLE),
    "PERMISSION_DENIED": (_NO_IDENTITY, _DENIED),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when somebody calls them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people meet them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"cognomen.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - narrows what getattr gives; true of every module here
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cognomen", message="cognomen %(version)s")
def cognomen() -> None:
    """SPIFFE identities for agents, that end when they should.

    A working socket now: `cognomen dev`. It prints SPIFFE_ENDPOINT_SOCKET=…; with that
    exported, in another terminal: `cognomen fetch x509`.

    \b
    The issuer's commands speak to its admin socket: --socket, COGNOMEN_ADMIN_SOCKET,
    or /run/cognomen/admin/issuer.sock. `fetch` and `validate` speak to the Workload
    API: --socket, or SPIFFE_ENDPOINT_SOCKET.
    Every command that prints data takes --output json: keys are the fields' names in
    proto/cognomen/wire/pb, and stay.

    \b
    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the daemon cannot be
    reached or cannot answer now (of revoke --wait: revoked, but not enforced everywhere),
    4 not found, 5 denied, 130 interrupted, 141 nobody reads what it prints.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines


def run(arguments: Sequence[str]) -> int:
    """Run the command and tell its failure on standard error; returns the exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines on standard error: we say what failed
    try:
        result: object = cognomen.main(list(arguments), prog_name="cognomen", standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.format_message(), err=True)
        return _USAGE
    except LostOutputError as e:
        return _BROKEN_PIPE if e.is_hangup else _tell(click.ClickException(str(e)))
    except UnicodeEncodeError as e:  # an argument's stray bytes, met where they should have become text
        return _tell(click.UsageError(f"expected arguments in UTF-8, found {e.object!r}"))
    except (click.ClickException, Refused, SVIDError) as e:
        return _tell(e)
    return result if isinstance(result, int) else 0


def _tell(error: click.ClickException | Refused | SVIDError) -> int:
    """Say on standard error what failed and what to do next; returns the exit code."""
    match error:
        case click.ClickException():
            detail, hint, code = _in_our_voice(error.format_message()), _usage_hint(error), error.exit_code
        case Refused():
            detail, hint, code = error.detail, error.hint, _EXIT_CODES.get(error.kind, _FAILED)
        case WorkloadAPIError():
            detail, (hint, code) = str(error), _WORKLOAD_API.get(error.code, ("", _FAILED))
        case AddressError():
            detail, hint, code = str(error), "set SPIFFE_ENDPOINT_SOCKET, or give --socket", _USAGE
        case _:
            detail, hint, code = str(error), "", _FAILED
    click.echo(f"error: {detail}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return code


def _in_our_voice(message: str) -> str:
    """Write click's "No such option." as we write: lower case, no full stop."""
    return f"{message[:1].lower()}{message[1:]}".removesuffix(".")


def _usage_hint(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path} --help" if context is not None else ""


def main() -> None:
    """Be the program `cognomen`."""
    own_streams()
    own_what_we_make()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
