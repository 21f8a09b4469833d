"""`cognomen bundle`: show the trust bundle that the issuer publishes, and hand copies of it to relying parties."""

import json
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.bundleforms import FORMS, bundle_text
from cognomen.cli.exporting import Exporter, Outcome, Target, watch_bundle
from cognomen.cli.hook import exec_option
from cognomen.cli.options import GivenPath, admin_socket_option, comment_option, output_option
from cognomen.cli.output import Columns, View, print_json, print_table
from cognomen.cli.signals import heed_signals
from cognomen.protocol.errors import Refused
from cognomen.protocol.exportnames import check_export_name
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["bundle"]

_EXPORTS = Columns(
    table=("name", "format", "at", "missing", "breaks_at", "revoked"),
    wide=("name", "format", "at", "missing", "breaks_at", "revoked", "key_ids", "digest", "actor", "login"),
)
_FAILED = 1


@click.group()
def bundle() -> None:
    """Show the trust bundle, the authorities of this trust domain, or hand copies of it to relying parties."""


@bundle.command()
@click.option(
    "--format",
    "kind",
    type=FORMS,
    default="pem",
    show_default=True,
    help="pem: the X.509 authorities; spiffe: the whole SPIFFE bundle (JWKS); jwks: the keys of JWT-SVIDs,"
    " as relying parties of OpenID Connect take them; oidc-discovery: what they look for under jwt_issuer.",
)
@output_option
@admin_socket_option
def show(kind: str, output: str, socket: Path) -> None:
    """Show the trust bundle.

    --output json prints an object with the bundle and its trust_domain.

    \b
    Examples:
      cognomen bundle show --format pem > bundle.pem
      cognomen bundle show --format jwks > jwks.json
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.get_bundle()
    text = bundle_text(found, kind)
    if output == "json":
        print_json({"trust_domain": found.trust_domain, "bundle": text if kind == "pem" else json.loads(text)})
    else:
        click.echo(text.rstrip())


@bundle.command()
@click.option("--name", required=True, help="Of the relying party, such as openai: one for each.")
@click.option("--format", "kind", type=FORMS, default="jwks", show_default=True, help="As for show.")
@click.option("--write", "file", type=GivenPath(), metavar="FILE", help="Replace this file, which everybody may read.")
@exec_option(
    "Run this after that, without a shell, for a minute at most. The bundle is its standard input, COGNOMEN_FILE is the file"
    " of --write, COGNOMEN_EXPORT is the name."
)
@click.option("--watch", is_flag=True, help="Keep running, and export each change until Ctrl-C or SIGTERM.")
@comment_option
@admin_socket_option
def export(
    name: str,
    kind: str,
    file: Path | None,
    command: tuple[str, ...],
    watch: bool,
    comment: str,
    socket: Path,
) -> int:
    """Hand a copy of the bundle to a relying party that does not fetch it, if it has changed.

    --write replaces a file, then --exec runs a command that uploads it. Only when that ended
    with 0 does the issuer note which authorities the relying party knows now: `cognomen
    status` and the metrics then say when it needs another copy. If the command fails, the exit
    code is 1; --watch warns, and tries again after 1 s to 5 min.

    Nothing is run if an earlier run exported the same to the same file and command. Each
    relying party needs a name of its own.

    \b
    Examples:
      cognomen bundle export --name openai --write /srv/oidc/jwks.json
      cognomen bundle export --name openai --watch \\
        --exec "/usr/local/bin/upload-jwks"
    """  # noqa: D301 - \b is click's mark
    if file is None and not command:
        raise click.UsageError("expected --write or --exec, found neither")
    try:
        check_export_name(name)
    except Refused as e:
        raise click.UsageError(f"--{e.detail}") from e
    target = Target(name=name, form=kind, file=file, command=command, comment=comment)
    target.check()
    exporter = Exporter(target)
    if watch:
        heed_signals()
        watch_bundle(exporter, socket)
    with connect(socket) as admin:
        outcome = exporter(admin)
    if outcome is Outcome.UNCHANGED:
        click.echo(f"{name}: exported before, and nothing has changed", err=True)
    return _FAILED if outcome is Outcome.FAILED else 0


@bundle.command()
@output_option
@admin_socket_option
def exports(output: str, socket: Path) -> None:
    """List the copies of the bundle that relying parties have, as `export` made them.

    missing are the authorities that a copy lacks: from breaks_at on, when the first of them
    signs, the relying party refuses what it signs. revoked are those that it still trusts
    although they were revoked. Both are mended by another export.

    \b
    Example:
      cognomen bundle exports
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.list_exports()
    _print(found, output)


@bundle.command("forget-export")
@click.argument("name", metavar="NAME")
@comment_option
@output_option
@admin_socket_option
def forget_export(name: str, comment: str, output: str, socket: Path) -> None:
    """Forget an export whose relying party has ended; stop its --watch first. Lists the others.

    \b
    Example:
      cognomen bundle forget-export openai
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        found = admin.forget_export(pb.ForgetExportRequest(name=name, comment=comment))
    _print(found, output)


def _print(found: pb.ListExportsResponse, output: str) -> None:
    documents = [document_from_message(one) for one in found.exports]
    if output == "json":
        print_json({"exports": list(documents)})
    else:
        print_table(_EXPORTS, documents, View(output=output))
