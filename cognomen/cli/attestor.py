"""`cognomen attestor`: run the node's daemon, check it, and let its node rejoin."""

import os
from pathlib import Path

import click

from attestor.config import AttestorConfig
from cognomen.cli.options import attestor_socket_option, output_option, workload_address
from cognomen.cli.reach import check_workload_api
from cognomen.cli.running import (
    announce,
    check_socket_path,
    config_options,
    endpoint,
    print_config,
    run,
    warn_of_relative_paths,
)
from cognomen.daemon.config import load
from svid.clock import SystemClock
from svid.workloadapi.address import endpoint_target

__all__ = ["attestor"]

_HELPS = {
    "trust_domain": "Refuse an invite to any other trust domain.",
    "state_dir": "The node's key, SVID and bundle; mode 0700.",
    "workload_socket": "Where workloads reach the Workload API.",
    "node_attestor": "How this node proves itself when it joins.",
    "node_name": "What people call this node.  [default: its host name]",
    "workload_attestors": "What identifies callers: names, comma-separated.",
    "connections_per_uid": "Connections of one user to the workload socket at one time.",
    "health_address": "HOST:PORT on loopback for /live, /ready and /metrics.  [default: none]",
}


@click.group()
def attestor() -> None:
    """The node's daemon proves the node, identifies its callers, and serves the SPIFFE Workload API."""


@attestor.command("run", params=config_options(AttestorConfig, _HELPS, {"state_dir": "--state"}))
@click.option("--invite", "source", metavar="FILE|-", help="The invite for a node that has never joined.")
def run_attestor(config: Path | None, log_level: str, source: str | None, **flags: object) -> None:
    """Run the attestor until SIGTERM or Ctrl-C.

    The first run needs an invite. It holds a secret, so it comes from a file or standard
    input. Later runs need none. Each key of the TOML file is also a flag. When the Workload
    API is ready, the attestor prints SPIFFE_ENDPOINT_SOCKET=unix://PATH. It logs to standard
    error, in JSON lines unless that is a terminal.

    \b
    Example:
      cognomen attestor run --state ~/attestor \\
        --workload-socket ~/attestor/api.sock --invite invite
    """  # noqa: D301 - \b is click's mark
    loaded = load(config, AttestorConfig, flags)
    socket = check_socket_path(loaded.workload_socket)

    from attestor.main import run as run_main  # noqa: PLC0415 - loads everything
    from cognomen.cli.invitefile import load_invite  # noqa: PLC0415
    from cognomen.daemon.systemd import Systemd  # noqa: PLC0415

    systemd = Systemd.from_environment(os.environ)
    invite = load_invite(source) if source is not None else None
    run(
        log_level,
        lambda: run_main(
            loaded,
            invite=invite,
            ready=lambda _: announce(f"SPIFFE_ENDPOINT_SOCKET={endpoint(socket)}"),
            systemd=systemd,
        ),
    )


@attestor.command(params=config_options(AttestorConfig, _HELPS, {"state_dir": "--state"}))
@click.option(
    "--invite",
    "source",
    metavar="FILE|-",
    required=True,
    help="The invite, made by cognomen node invite, with --node-id ID to rejoin.",
)
def rejoin(config: Path | None, log_level: str, source: str, **flags: object) -> None:
    """Join with an invite, without running the attestor: again, or for the first time.

    Stop the attestor first. With an invite for a node (--node-id ID), a node that was away for
    too long comes back as the same node; with any other invite, this machine joins as a new
    node. The command prints the node's SPIFFE ID and exits. A node whose SVID expired within
    the issuer's return window does not need this: it comes back automatically.

    \b
    Example:
      cognomen attestor rejoin --state ~/attestor --invite invite
    """  # noqa: D301 - \b is click's mark
    loaded = load(config, AttestorConfig, flags)

    from attestor.main import rejoin as rejoin_main  # noqa: PLC0415 - loads everything
    from cognomen.cli.invitefile import load_invite  # noqa: PLC0415

    invite = load_invite(source)
    run(log_level, lambda: rejoin_main(loaded, invite, lambda spiffe_id: click.echo(str(spiffe_id))))


@attestor.command(params=config_options(AttestorConfig, _HELPS, {"state_dir": "--state"}))
@click.option(
    "--invite", "source", metavar="FILE|-", help="Also check this invite, and the node attestor, which needs it."
)
@output_option
def check(config: Path | None, log_level: str, source: str | None, output: str, **flags: object) -> None:
    """Check a configuration without starting anything, and show the result.

    \b
    Example:
      cognomen attestor check --config /etc/cognomen/attestor.toml
    """  # noqa: D301 - \b is click's mark
    del log_level
    loaded = load(config, AttestorConfig, flags)
    check_socket_path(loaded.workload_socket)

    from attestor.adapters import make_adapters  # noqa: PLC0415 - loads each adapter that the configuration names
    from cognomen.cli.invitefile import load_invite  # noqa: PLC0415

    invite = load_invite(source) if source is not None else None
    make_adapters(loaded, SystemClock(), invite)
    warn_of_relative_paths(loaded)
    print_config(loaded, output)


@attestor.command()
@attestor_socket_option
def healthcheck(socket: str) -> int:
    """Say whether this node's attestor is serving.

    It serves once it has joined and has a complete snapshot from its issuer, until its node
    is evicted or banned. Exit code 0 if it serves, 1 if not, 3 if it does not answer.

    \b
    Example:
      cognomen attestor healthcheck --socket unix:///run/cognomen/api.sock
    """  # noqa: D301 - \b is click's mark
    from cognomen.cli.health import tell_health  # noqa: PLC0415 - loads gRPC

    return tell_health(
        endpoint_target(check_workload_api(workload_address(socket))),
        more=f"cognomen status attestor --socket {socket}",
    )
