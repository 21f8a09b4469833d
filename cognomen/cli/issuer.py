"""`cognomen issuer`: run the issuer, check it, back it up and restore it."""

import os
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import msgspec

from cognomen.cli.admin import check_admin_socket, connect
from cognomen.cli.options import GivenPath, admin_socket_option, comment_option, output_option
from cognomen.cli.output import print_document, print_json, warn
from cognomen.cli.running import announce, check_socket_path, config_options, print_config, run, warn_of_relative_paths
from cognomen.daemon.config import load
from cognomen.wire.admin import moment_to_text
from cognomen.wire.pb import admin_pb2 as pb
from issuer.config import IssuerConfig
from svid.clock import SystemClock
from svid.encoding import JSON

if TYPE_CHECKING:
    from issuer.backup import Backup, Progress

__all__ = ["issuer"]

_TELL_SECONDS = 2.0

_HELPS = {
    "trust_domain": "The trust domain's name, such as example.org.",
    "state_dir": "The database and the keys; mode 0700.",
    "admin_socket": "The socket on which `cognomen` reaches the issuer.",
    "node_address": "HOST:PORT for nodes that have joined.",
    "join_address": "HOST:PORT for nodes that have yet to join.",
    "advertised_node_address": "What an invite names instead of --node-address.",
    "advertised_join_address": "What an invite names instead of --join-address.",
    "datastore": "sqlite, or memory (a new trust domain at every start).",
    "key_manager": "disk, memory (only with --datastore memory), or a plugin.",
    "node_attestors": "How nodes prove themselves: names, comma-separated.",
    "upstream_authority": "The CA that certifies our authorities.",
    "jwt_issuer": "The https URL that JWT-SVIDs name as issuer, for OIDC.  [default: none]",
    "jwt_authority_key": "ec-p256, ec-p384, rsa-2048 or rsa-4096, for new JWT authorities.",
    "web_address": "HOST:PORT that serves the keys of --jwt-issuer.  [default: none]",
    "web_certificate_file": "PEM: serve --web-address over HTTPS with this chain.",
    "web_key_file": "PEM: the private key of that certificate.",
    "web_behind_proxy": "Serve --web-address over HTTP to a proxy that serves HTTPS.",
    "x509_svid_ttl": "Lifetime of an X509-SVID, unless its entry sets it; at most 1d.",
    "jwt_svid_ttl": "Lifetime of a JWT-SVID, unless its entry sets it; at most 1d.",
    "node_svid_ttl": "Lifetime of a node's SVID, which its attestor renews.",
    "issuer_svid_ttl": "Lifetime of the issuer's own certificate.",
    "return_window": "How long after its SVID expired a node may return; 0s: never.",
    "invite_ttl": "Lifetime of an invite, unless `node invite --ttl` sets it.",
    "on_clone": "If a node's replaced SVID is used again: alarm, or ban the node.",
    "authority_lifetime": "Lifetime of an X.509 or JWT authority.",
    "audit_checkpoint_interval": "How often the audit chain is signed.",
    "audit_checkpoint_file": "Also append signed checkpoints to this file.",
    "audit_checkpoint_syslog": "Also write signed checkpoints to the system log.",
    "authority_spread": "How long an authority is published before it signs.",
    "disk_reserve_mib": "Space kept for removing entries and nodes on a full disk.",
    "entry_svids_per_second": "SVIDs for an entry on one node, in the long run.",
    "entry_svids_burst": "SVIDs for an entry on one node, in one burst.",
    "node_svids_per_second": "SVIDs for all entries of a node, in the long run.",
    "node_svids_burst": "SVIDs for all entries of a node, in one burst.",
    "uses_kept": "How long it is kept which process used an identity.",
    "breaker_open": "How long the breaker of a limit stays open at first, at most 10m.",
    "health_address": "HOST:PORT on loopback for /live, /ready and /metrics.  [default: none]",
}


@click.group()
def issuer() -> None:
    """The issuer decides who gets which identity, signs SVIDs, and records both."""


@issuer.command("run", params=config_options(IssuerConfig, _HELPS, {"state_dir": "--state"}))
def run_issuer(config: Path | None, log_level: str, **flags: object) -> None:
    """Run the issuer until SIGTERM or Ctrl-C.

    Each key of the TOML file is also a flag. A DURATION is such as 90s, 30m, 1h or 14d, in the
    file as a string. When the issuer is ready, it prints COGNOMEN_ADMIN_SOCKET=PATH. It logs to
    standard error, in JSON lines unless that is a terminal.

    \b
    Example:
      cognomen issuer run --trust-domain example.org --state ~/issuer \\
        --admin-socket ~/issuer/admin/api.sock
    """  # noqa: D301 - \b is click's mark
    loaded = load(config, IssuerConfig, flags)
    socket = check_socket_path(loaded.admin_socket)

    from cognomen.daemon.systemd import Systemd  # noqa: PLC0415 - loads structlog
    from issuer.main import run as run_main  # noqa: PLC0415 - loads everything

    systemd = Systemd.from_environment(os.environ)

    run(
        log_level,
        lambda: run_main(loaded, ready=lambda _: announce(f"COGNOMEN_ADMIN_SOCKET={socket}"), systemd=systemd),
    )


@issuer.command(params=config_options(IssuerConfig, _HELPS, {"state_dir": "--state"}))
@output_option
def check(config: Path | None, log_level: str, output: str, **flags: object) -> None:
    """Check a configuration without starting anything, and show the result.

    The names in node_address and join_address are looked up, as the issuer will do when it
    starts. Whether their ports are free is not checked.

    \b
    Example:
      cognomen issuer check --config /etc/cognomen/issuer.toml
    """  # noqa: D301 - \b is click's mark
    del log_level
    loaded = load(config, IssuerConfig, flags)
    check_socket_path(loaded.admin_socket)

    from issuer.adapters import make_adapters  # noqa: PLC0415 - loads each adapter that the configuration names
    from issuer.api.front import check_names  # noqa: PLC0415 - loads gRPC
    from issuer.web.openid import check_certificate, web_warnings  # noqa: PLC0415 - loads structlog

    check_names({"node_address": loaded.node_address, "join_address": loaded.join_address})
    if loaded.web_certificate_file:
        check_certificate(loaded)
    make_adapters(loaded, SystemClock())
    warn_of_relative_paths(loaded)
    for line in web_warnings(loaded, now=SystemClock().now()):
        warn(line)
    print_config(loaded, output)


@issuer.command()
@admin_socket_option
def healthcheck(socket: Path) -> int:
    """Say whether the issuer is serving.

    Exit code 0 if it is, 1 if not, 3 if it does not answer.

    \b
    Example:
      cognomen issuer healthcheck
    """  # noqa: D301 - \b is click's mark
    from cognomen.cli.health import tell_health  # noqa: PLC0415 - loads more of gRPC

    check_admin_socket(socket)
    return tell_health(f"unix://{quote(str(socket.absolute()))}", more=f"cognomen status --socket {socket}")


@issuer.command()
@comment_option
@admin_socket_option
def confirm_clock(comment: str, socket: Path) -> None:
    """Confirm that the issuer's clock is right after a jump.

    Until you confirm it, but for a day at most, nothing is retired or pruned because its time
    seems to have come. cognomen status says until when.

    \b
    Example:
      cognomen issuer confirm-clock
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        now = admin.confirm_clock(pb.ConfirmClockRequest(comment=comment)).now.ToDatetime(tzinfo=UTC)
    click.echo(f"the clock is trusted: {moment_to_text(now)}")


def _teller() -> "Progress":
    """Report on standard error how far a backup is, every few seconds."""
    clock = SystemClock()
    told = clock.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told
        if clock.monotonic() - told >= _TELL_SECONDS:
            told = clock.monotonic()
            click.echo(f"copied {done} of {of} pages", err=True)

    return tell


_state_option = click.option(
    "--state",
    type=GivenPath(),
    default=next(str(field.default) for field in msgspec.structs.fields(IssuerConfig) if field.name == "state_dir"),
    show_default=True,
    help="The issuer's state directory.",
)


@issuer.command()
@click.argument("file", type=GivenPath())
@_state_option
@output_option
def backup(file: Path, state: Path, output: str) -> None:
    """Write a backup of database and keys to a new file, mode 0600.

    Run it as the issuer's user; the issuer may be running. The copy is read completely before
    it is packed, so that a damaged database never becomes a backup. The file holds the
    private keys of the authorities: anyone who has it can sign for the trust domain.

    \b
    Example, with the date in the name because the file must be a new one:
      cognomen issuer backup /backup/issuer-$(date +%F).tar \\
        --state /var/lib/cognomen/issuer
    """  # noqa: D301 - \b is click's mark
    from issuer.backup import back_up  # noqa: PLC0415 - loads the datastore

    _print_backup(back_up(state, file, progress=_teller()), output, file)


@issuer.command()
@click.argument("file", type=GivenPath())
@_state_option
@output_option
def restore(file: Path, state: Path, output: str) -> None:
    """Restore a backup into a state directory that has no database.

    Stop the issuer first. If a restore is interrupted, run the same command again.

    After a restore, every attestor takes a new snapshot, all invites are void, and new
    authorities take over after the usual waits. What was created after the backup is lost,
    and nodes that joined after it must be invited again. Revocations made after it are
    forgotten: the command says how to revoke all that was signed before.

    \b
    Example:
      cognomen issuer restore /backup/issuer.tar --state /var/lib/cognomen/issuer
    """  # noqa: D301 - \b is click's mark
    from issuer.backup import restore as restore_backup  # noqa: PLC0415 - loads the datastore

    found, forgotten = restore_backup(file, state, actor=f"uid:{os.geteuid()}")
    _print_backup(found, output, file)
    if forgotten is not None:
        click.echo(f"warning: {forgotten.reason}; so are blocks, bans, taints and deletions", err=True)
        click.echo("repeat them; or, once the issuer runs, revoke all that was signed before:", err=True)
        for command in forgotten.remedy:
            click.echo(f"  {command}", err=True)
        click.echo(
            "first wait for every node: a node that is away will need an invite, and taint refuses without --force",
            err=True,
        )
        click.echo(
            "if no node comes back, the nodes have dropped the authority that signs in this backup; activate one that they"
            " know: cognomen authority activate KEY_ID, with an old one from cognomen authority list",
            err=True,
        )


@issuer.command("forget-authorities")
@_state_option
def forget_authorities(state: Path) -> None:
    """Retire the authorities whose keys are lost for good, so that the issuer can start.

    Stop the issuer first. When it starts again, it makes new authorities, which no node
    knows: every node needs a new invite, and only those who still have the old bundle accept
    what was signed before.

    \b
    Example:
      cognomen issuer forget-authorities --state /var/lib/cognomen/issuer
    """  # noqa: D301 - \b is click's mark
    from issuer.recovery import forget_authorities as forget  # noqa: PLC0415 - loads the datastore

    for key_id in forget(state, actor=f"uid:{os.geteuid()}"):
        click.echo(f"retired: {key_id}")


def _print_backup(found: "Backup", output: str, file: Path) -> None:
    document: dict[str, JSON] = {
        "file": str(file),
        "trust_domain": found.trust_domain,
        "made_at": moment_to_text(found.made_at),
        "incarnation": found.incarnation,
        "change": found.change,
        "keys": found.keys,
    }
    (print_json if output == "json" else print_document)(document)
