"""`cognomen issuer`: run the issuer, and what concerns it as a whole."""

import os
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import msgspec

from cognomen.cli.admin import check_admin_socket, connect
from cognomen.cli.options import GivenPath, admin_socket_option, output_option
from cognomen.cli.output import print_document, print_json
from cognomen.cli.running import announce, check_socket_path, config_options, print_config, run
from cognomen.daemon.config import load
from cognomen.wire.admin import moment_to_text
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
    "admin_socket": "Where the command reaches the issuer.",
    "node_address": "HOST:PORT for nodes that have joined.",
    "join_address": "HOST:PORT for nodes that join.",
    "advertised_node_address": "What an invite says instead of --node-address.",
    "advertised_join_address": "What an invite says instead of --join-address.",
    "key_manager": "disk, or memory: new authorities at every start.",
    "x509_svid_ttl": "Where an entry says nothing else; at most 1d.",
    "jwt_svid_ttl": "Where an entry says nothing else; at most 1d.",
    "node_svid_ttl": "How long an attestor stays known without renewal.",
    "issuer_svid_ttl": "Of the issuer's own certificate.",
    "return_window": "After its SVID's end, a node may return; 0s: never.",
    "invite_ttl": "Where an invite's maker asks for nothing else.",
    "on_clone": "A node's replaced SVID is shown again: alarm, or ban the node.",
    "authority_lifetime": "Of an X.509 or JWT authority.",
    "audit_checkpoint_interval": "How often the audit chain is signed.",
    "audit_checkpoint_file": "Signed checkpoints are added here, too.",
    "audit_checkpoint_syslog": "Signed checkpoints to the system's log, too.",
    "authority_spread": "How long an authority is published before it signs.",
    "disk_reserve_mib": "Kept for removing entries and nodes on a full disk.",
    "entry_svids_per_second": "Minted for an entry on one node, in the long run.",
    "entry_svids_burst": "Minted for it at once, after a rest.",
    "node_svids_per_second": "Minted for all entries of a node.",
    "node_svids_burst": "Minted for them at once, after a rest.",
    "health_address": "HOST:PORT of loopback for /live, /ready and /metrics.  [default: nowhere]",
}


@click.group()
def issuer() -> None:
    """The issuer: decides, signs, remembers, feeds the attestors."""


@issuer.command("run", params=config_options(IssuerConfig, _HELPS, {"state_dir": "--state"}))
def run_issuer(config: Path | None, log_level: str, **flags: object) -> None:
    """Run the issuer until SIGTERM or Ctrl-C.

    Every key of the TOML file is a flag, too. When the issuer is ready, it prints
    COGNOMEN_ADMIN_SOCKET=PATH; it logs to standard error, JSON lines where that is no
    terminal.

    \b
    Example:
      cognomen issuer run --trust-domain example.org --state ~/issuer --admin-socket ~/issuer/admin/api.sock
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
    """Check a configuration without starting anything, and show what it comes to.

    \b
    Example:
      cognomen issuer check --config /etc/cognomen/issuer.toml
    """  # noqa: D301 - \b is click's mark
    del log_level
    loaded = load(config, IssuerConfig, flags)
    check_socket_path(loaded.admin_socket)
    print_config(loaded, output)


@issuer.command()
@admin_socket_option
def healthcheck(socket: Path) -> int:
    """Say whether the issuer serves.

    Exit code 0 when it does, 1 when not, 3 when nobody answers.

    \b
    Example:
      cognomen issuer healthcheck
    """  # noqa: D301 - \b is click's mark
    from cognomen.cli.health import tell_health  # noqa: PLC0415 - loads more of gRPC

    check_admin_socket(socket)
    return tell_health(f"unix://{quote(str(socket.absolute()))}")


@issuer.command()
@admin_socket_option
def confirm_clock(socket: Path) -> None:
    """Say that the issuer's clock is right, although it jumped.

    Until then, but for a day at most, nothing is retired or pruned because its time seems
    to have come; cognomen status says until when.

    \b
    Example:
      cognomen issuer confirm-clock
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        now = admin.confirm_clock().now.ToDatetime(tzinfo=UTC)
    click.echo(f"the clock is trusted: {moment_to_text(now)}")


def _teller() -> "Progress":
    """Tell on standard error how far a backup is, every few seconds that it takes."""
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

    Whether the issuer runs or not; as its user. The file holds the private keys of the
    authorities: whoever has it can sign for the trust domain.

    \b
    Example:
      cognomen issuer backup /backup/issuer.tar --state /var/lib/cognomen/issuer
    """  # noqa: D301 - \b is click's mark
    from issuer.backup import back_up  # noqa: PLC0415 - loads the datastore

    _print_backup(back_up(state, file, progress=_teller()), output, file)


@issuer.command()
@click.argument("file", type=GivenPath())
@_state_option
@output_option
def restore(file: Path, state: Path, output: str) -> None:
    """Restore a backup into a state directory that has no database.

    For an issuer that does not run. Every attestor takes a snapshot then, all invites are
    void, and new authorities take over after the usual waits. What was created after the
    backup is lost; nodes that joined after it must be invited again. What was revoked after
    it is forgotten: the command says how to end all that was signed before.

    \b
    Example:
      cognomen issuer restore /backup/issuer.tar --state /var/lib/cognomen/issuer
    """  # noqa: D301 - \b is click's mark
    from issuer.backup import restore as restore_backup  # noqa: PLC0415 - loads the datastore

    found, forgotten = restore_backup(file, state, actor=f"uid:{os.geteuid()}")
    _print_backup(found, output, file)
    if forgotten is not None:
        click.echo(f"warning: {forgotten.reason}; so are blocks, bans, taints and deletions", err=True)
        click.echo("say them again; or end all that was signed before, once the issuer runs:", err=True)
        for command in forgotten.remedy:
            click.echo(f"  {command}", err=True)
        click.echo(
            "wait for every node before: one that is away then needs an invite, and taint refuses without --now",
            err=True,
        )
        click.echo(
            "if no node comes back, they dropped the authority that signs in this backup; let one that they know sign:"
            " cognomen authority activate KEY_ID, of an old one in: cognomen authority list",
            err=True,
        )


@issuer.command("forget-authorities")
@_state_option
def forget_authorities(state: Path) -> None:
    """Retire the authorities whose keys are lost for good, so that the issuer can start.

    For an issuer that does not run. When it starts, it makes new authorities, which no node
    knows: every node has to be invited again, and what was signed before is accepted only
    by whoever still has the old bundle.

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
