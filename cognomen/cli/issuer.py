"""`cognomen issuer`: run the issuer, and what concerns it as a whole."""

import os
from datetime import UTC
from pathlib import Path

import click

from cognomen.cli.admin import connect
from cognomen.cli.options import admin_socket_option
from cognomen.cli.running import check_socket_path, config_options, run
from cognomen.daemon.config import load
from cognomen.wire.admin import moment_to_text
from issuer.config import IssuerConfig

__all__ = ["issuer"]

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
    "authority_lifetime": "Of an X.509 or JWT authority.",
    "authority_spread": "How long an authority is published before it signs.",
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
        lambda: run_main(loaded, ready=lambda _: click.echo(f"COGNOMEN_ADMIN_SOCKET={socket}"), systemd=systemd),
    )


@issuer.command()
@admin_socket_option
def confirm_clock(socket: Path) -> None:
    """Say that the issuer's clock is right, although it jumped.

    Until then nothing is retired or pruned, because its time seems to have come; see
    cognomen status.

    \b
    Example:
      cognomen issuer confirm-clock
    """  # noqa: D301 - \b is click's mark
    with connect(socket) as admin:
        now = admin.confirm_clock().now.ToDatetime(tzinfo=UTC)
    click.echo(f"the clock is trusted: {moment_to_text(now)}")
