"""Write the pages of docs/reference that can be generated: `python docs/reference/make.py [FOLDER]`.

command.md is what each `--help` says, api.md the services of proto/ with their methods, sdk.md the public names of `svid` with examples
(docs/reference/sdk_page), rulebook.md the keys of a rulebook (docs/reference/rulebook_page). Nothing of them is written by hand.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rulebook_page import rulebook_page
from sdk_page import sdk_page

from cognomen.cli.main import cognomen

__all__ = ["main", "write_pages"]

_ROOT = Path(__file__).resolve().parents[2]
_WIDTH = 100
_MADE = "<!-- made by docs/reference/make.py (make reference) -->"
_SERVICES = {
    "proto/svid/wire/pb/workload.proto": (
        "The SPIFFE Workload API, on the attestor's workload socket. Every call carries the metadata"
        " `workload.spiffe.io: true`; the kernel identifies the caller. With"
        " `cognomen-fresh: true`, FetchJWTSVID gives tokens that nobody else gets. The two `FetchWIT…` answer UNIMPLEMENTED."
    ),
    "proto/svid/wire/pb/denials.proto": (
        "Which credentials were revoked, on the attestor's workload socket, with the same metadata; for our own library, which says"
        " back what it enforces. Every caller may follow, even one without an identity."
    ),
    "proto/svid/wire/pb/callers.proto": (
        "Who may call the identities of the calling process, on the attestor's workload socket, with the same metadata; for our own"
        " library. A process without an identity gets PERMISSION_DENIED."
    ),
    "proto/cognomen/wire/pb/inspect.proto": "On the attestor's workload socket.",
    "proto/cognomen/wire/pb/admin.proto": (
        "On the issuer's admin socket, which only its owner and root can open; the caller's uid is the actor on record."
    ),
    "proto/cognomen/wire/pb/node.proto": (
        "Over the network: `Join` with the issuer's certificate alone, `Node` over mutual TLS 1.3 with the node's SVID."
    ),
}
_WITHOUT_PACKAGE = {"SpiffeWorkloadAPI"}  # as it is called, whatever our file says (ADR-0003)
_HEALTH = (
    "Both sockets also serve gRPC's own `grpc.health.v1.Health` and server reflection (32 requests on one stream)."
)
_SERVICE = re.compile(r"^service (\w+) \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
_METHOD = re.compile(r"((?:^ *//.*\n)*)^ *rpc (\w+)\((stream )?([\w.]+)\) returns \((stream )?([\w.]+)\)", re.MULTILINE)


def write_pages(folder: Path) -> None:
    """Write all generated pages into that folder."""
    (folder / "command.md").write_text(_command_page())
    (folder / "api.md").write_text(_api_page())
    (folder / "sdk.md").write_text(sdk_page(_MADE))
    (folder / "rulebook.md").write_text(rulebook_page(_MADE))


def _command_page() -> str:
    parts = [_MADE, "# The command\n", "What `--help` says, of every command."]
    for names, command in _commands(["cognomen"], cognomen):
        title = " ".join(names)
        parts += [f"\n## `{title}`\n", f"```text\n{_help(names, command)}\n```"]
    return "\n".join(parts) + "\n"


def _commands(names: list[str], command: click.Command) -> Iterator[tuple[list[str], click.Command]]:
    yield names, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=names[-1])
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _commands([*names, name], found)


def _help(names: list[str], command: click.Command) -> str:
    parent: click.Context | None = None
    for name in names[:-1]:
        parent = click.Context(click.Group(name), info_name=name, parent=parent)
    settings = {"help_option_names": ["-h", "--help"], "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    text = command.get_help(click.Context(command, info_name=names[-1], parent=parent, **settings))
    return "\n".join(line.rstrip() for line in text.splitlines())


def _api_page() -> str:
    parts = [_MADE, "# The APIs\n", "The .proto files describe each message field by field.", _HEALTH]
    for path, where in _SERVICES.items():
        text = (_ROOT / path).read_text()
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
        for name, body in _SERVICE.findall(text):
            full = f"{package[1]}.{name}" if package and name not in _WITHOUT_PACKAGE else name
            parts += [
                f"\n## `{full}`\n",
                f"{where} [{path}](../../{path})\n",
                "| method | request | answer | what |",
                "|---|---|---|---|",
            ]
            for comment, method, sends, request, streams, answer in _METHOD.findall(body):
                what = " ".join(line.strip(" /") for line in comment.splitlines())
                parts.append(f"| {method} | {_shown(request, sends)} | {_shown(answer, streams)} | {what} |")
    return "\n".join(parts) + "\n"


def _shown(message: str, stream: str) -> str:
    name = message.rpartition(".")[2]
    return f"{name}, a stream" if stream else name


def main(arguments: list[str]) -> int:
    """Write them where they belong, or into the folder that is named."""
    write_pages(Path(arguments[0]) if arguments else _ROOT / "docs" / "reference")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
