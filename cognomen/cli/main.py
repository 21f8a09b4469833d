"""`cognomen`: the root command, how it reports failures, and its exit codes.

Each command is imported when it is called, so that `--help` does not wait for gRPC and the daemons.
"""

import importlib
import os
import re
import sys
from collections.abc import Sequence

import click

from cognomen.cli.changes import Changes
from cognomen.cli.emptytext import refuse_empty
from cognomen.cli.signals import ctrl_c_ends_at_once, heed_signals_as_first_process
from cognomen.process.collector import collect_rarely
from cognomen.process.privatefile import own_what_we_make
from cognomen.process.standardstreams import LostOutputError, own_streams
from cognomen.protocol.audiences import GETS_NOTHING_FOR, MUST_LIST
from cognomen.protocol.errors import FileRefused, Kind, Refused
from cognomen.protocol.printable import printable
from cognomen.protocol.status import SENT_AWAY
from svid.errors import AddressError, SVIDError, WorkloadAPIError

__all__ = ["main", "run"]

_COMMANDS = {
    "dev": "run an issuer and an attestor on this machine",
    "issuer": "run the issuer, back it up, restore it",
    "attestor": "run the node's daemon, which serves the SPIFFE Workload API",
    "status": "show how the issuer or the attestor is doing",
    "why": "explain why a process has an identity, or has none",
    "node": "invite nodes, list them, and remove them",
    "entry": "manage registration entries: which workload gets which SPIFFE ID",
    "plan": "show what applying a rulebook would change",
    "apply": "apply a rulebook",
    "prove": "prove what a rulebook means, before anything changes",
    "test": "run the tests of a rulebook",
    "graph": "show who may call whom by a rulebook",
    "agent": "show agents and who answers for them; suspend, retire and review them",
    "explain": "explain what a process would get by a rulebook",
    "rulebook": "import a rulebook; list, compare and restore those that were applied",
    "authority": "list and replace the keys that sign",
    "bundle": "show the trust bundle, or hand copies of it to relying parties",
    "svid": "list every credential that the issuer signed",
    "revoke": "revoke credentials, and block new ones",
    "audit": "show the record of decisions, and verify it",
    "fetch": "fetch SVIDs and bundles, as a workload does",
    "validate": "validate a token, as a service does",
    "completion": "print a completion script for your shell",
}

_FAILED, _USAGE, _UNAVAILABLE, _NOT_FOUND, _DENIED = 1, 2, 3, 4, 5
_INTERRUPTED = 130
_SIMILAR = re.compile(r"(No such (?:command|option) '.*'\.) \(?Did you mean .*", re.DOTALL)  # the hint knows better
_MOST = 16_384  # characters of a line about a failure
_BROKEN_PIPE = 141
_EXIT_CODES = {
    Kind.UNAVAILABLE: _UNAVAILABLE,
    Kind.NOT_FOUND: _NOT_FOUND,
    Kind.DENIED: _DENIED,
    Kind.UNAUTHENTICATED: _DENIED,
}
_NO_ANSWER = "has the attestor joined, and can it reach its issuer? see its log, or, as its user or root: cognomen status attestor"
_NO_IDENTITY = (
    "no entry matches this process (cognomen why says what is missing), or a revocation blocks it:"
    " ask the operator (cognomen why with the admin socket, cognomen revoke list)"
)
_SENT_AWAY = "this concerns every program of this machine, whatever the entries are: tell the operator"
_TOO_MANY = (
    "try again later; if a limit of the rulebook is too low, the operator can see how it stands: cognomen agent show"
)
_BY_WORDS = ((SENT_AWAY, _SENT_AWAY), (GETS_NOTHING_FOR, f"{MUST_LIST}; cognomen why shows which it lists"))
_WORKLOAD_API = {
    "UNAVAILABLE": (_NO_ANSWER, _UNAVAILABLE),
    "DEADLINE_EXCEEDED": (_NO_ANSWER, _UNAVAILABLE),
    "PERMISSION_DENIED": (_NO_IDENTITY, _DENIED),
    "RESOURCE_EXHAUSTED": (_TOO_MANY, _FAILED),
}


class _LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which a new user needs them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        with ctrl_c_ends_at_once():
            command = getattr(importlib.import_module(f"cognomen.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - narrows the type; true of every module here
        refuse_empty(command)
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

    To try it, run `cognomen dev`. It prints SPIFFE_ENDPOINT_SOCKET=…; export that in another
    terminal, and run `cognomen fetch x509` there.

    \b
    The issuer's commands connect to its admin socket: --socket,
    COGNOMEN_ADMIN_SOCKET, or /run/cognomen/admin/issuer.sock. `fetch`,
    `validate`, `why`, `status attestor` and `attestor healthcheck` connect to
    the Workload API: --socket, or SPIFFE_ENDPOINT_SOCKET.

    \b
    Where a command takes the ID of an entry, a node, a credential or an
    authority, its first characters are enough, at least 4, if no other ID
    begins with them. Entries and nodes can also be named by their SPIFFE ID,
    or by its path, and nodes by their names.

    \b
    Tables show what fits in 80 columns; --output wide shows everything in full,
    on a narrow terminal with a line for each field.
    Every command that prints data takes --output json, but graph, rulebook
    diff and rulebook rollback, which print text. The keys are the field names
    in proto/cognomen/wire/pb, and will not change. In a list that is not
    whole, next_page_token is not empty, or a key says so that is named more or
    ends in _more.

    \b
    Exit codes: 0 done, 1 refused or failed, 2 wrong usage (for plan also: it
    would change something), 3 the daemon cannot be reached or cannot answer now
    (for revoke --wait: revoked, but not enforced everywhere), 4 not found,
    5 denied, 130 interrupted, 141 the reader of the output has gone, 143 ended
    by SIGTERM. A file that is named and missing is 2, but RULES that are
    missing are 4; one that cannot be read or written is 1.
    """  # noqa: D301 - \b tells click to keep the lines of the paragraph


def run(arguments: Sequence[str]) -> int:
    """Run the command, and report a failure on standard error; returns the exit code."""
    changes = Changes()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would write to standard error; we report what failed
    try:
        result: object = cognomen.main(list(arguments), prog_name="cognomen", standalone_mode=False, obj=changes)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        if changes.is_open:
            _say("interrupted", "the request was sent, so the change may have been carried out", changes.hint)
        return _INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.format_message(), err=True)
        return _USAGE
    except LostOutputError as e:
        return _BROKEN_PIPE if e.is_hangup else _tell_lost_output(e, changes)
    except (MemoryError, UnicodeEncodeError) as e:
        return _tell(_as_ours(e))
    except (click.ClickException, Refused, SVIDError) as e:
        return _tell(e)
    return result if isinstance(result, int) else 0


def _as_ours(error: MemoryError | UnicodeEncodeError) -> click.ClickException:
    if isinstance(error, MemoryError):
        return click.ClickException("not enough memory for what it was to read")
    return click.UsageError(f"expected arguments in UTF-8, found {error.object!r}")  # noticed when one is encoded


def _tell(error: click.ClickException | Refused | SVIDError) -> int:
    """Report on standard error what failed and what to do next; returns the exit code."""
    match error:
        case click.ClickException():
            detail, hint, code = _in_our_voice(error.format_message()), _usage_hint(error), error.exit_code
        case FileRefused():
            detail, hint, code = error.detail, error.hint, _USAGE if error.kind is Kind.NOT_FOUND else _FAILED
        case Refused():
            detail, hint, code = error.detail, error.hint, _EXIT_CODES.get(error.kind, _FAILED)
        case WorkloadAPIError():
            detail, (hint, code) = error.detail, _WORKLOAD_API.get(error.code, ("", _FAILED))
            hint = error.hint or next((one for words, one in _BY_WORDS if words in detail), hint)
        case AddressError():
            detail, hint, code = str(error), "set SPIFFE_ENDPOINT_SOCKET, or give --socket", _USAGE
        case _:
            detail, hint, code = str(error), "", _FAILED
    _say("error", detail, hint)
    return code


def _tell_lost_output(error: LostOutputError, changes: Changes) -> int:
    if changes.is_done:
        _say("error", f"the change was carried out, but its answer could not be written: {error}", changes.hint)
    else:
        _say("error", str(error), "")
    return _FAILED


def _say(what: str, detail: str, hint: str) -> None:
    click.echo(f"{what}: {_safe(detail)}", err=True)
    if hint:
        click.echo("\n".join(map(_safe, f"hint: {hint}".split("\n"))), err=True)  # one may be a list of commands


def _safe(text: str) -> str:
    """One line for the terminal: what we quote from files, arguments and daemons must neither control it nor forge a line of ours."""
    return printable(text, most=_MOST)


def _in_our_voice(message: str) -> str:
    """Write a message of click, such as "No such option.", in our style: one line, lower case, no full stop, what was expected."""
    message = message.replace("\n\t", " ")  # a list of choices
    message = _SIMILAR.sub(r"\1", message)
    message = re.sub(r": ('.*') is not a valid integer(?: range)?\.$", r": expected a whole number, found \1", message)
    message = re.sub(
        r": ('.*') is not a valid boolean\..*$", r": expected true or false, found \1", message, flags=re.DOTALL
    )
    return f"{message[:1].lower()}{message[1:]}".removesuffix(".")


def _usage_hint(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return ""
    from cognomen.cli.suggesting import similar  # noqa: PLC0415 - a command that is typed well need not wait for it

    found = similar(error)
    help_of = f"{context.command_path} --help"
    return f"did you mean {' or '.join(found)}? see: {help_of}" if found else help_of


def main() -> None:
    """Run the program `cognomen`."""
    own_streams()
    own_what_we_make()
    heed_signals_as_first_process()
    collect_rarely()
    sys.exit(run(sys.argv[1:]))
