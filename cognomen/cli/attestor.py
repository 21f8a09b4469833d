"""`cognomen attestor`: run the node's daemon, check it, and bring its node back."""

import os
from pathlib import Path

import click

from attestor.config import AttestorConfig
from cognomen.cli.options import attestor_socket_option, output_option, read_source, workload_address
from cognomen.cli.reach import check_workload_api
from cognomen.cli.running import announce, check_socket_path, config_options, endpoint, print_config, run
from cognomen.daemon.config import load
from svid.workloadapi.address import endpoint_target

__all__ = ["attestor"]

_HELPS = {
    "trust_domain": "Refuse an invite of another one.",
    "state_dir": "The node's key, SVID and bundle; mode 0700.",
    "workload_socket": "Where workloads reach the Workload API.",
    "connections_per_uid": "To the workload socket, at one time.",
    "health_address": "HOST:PORT of loopback for /live, /ready and /metrics.  [default: nowhere]",
}


@click.group()
def attestor() -> None:
    """The node's daemon: proves the node, proves its callers, serves the SPIFFE Workload API."""


@attestor.command("run", params=config_options(AttestorConfig, _HELPS, {"state_dir": "--state"}))
@click.option("--invite", "source", metavar="FILE|-", help="What admits this node, when it never joined.")
def run_attestor(config: Path | None, log_level: str, source: str | None, **flags: object) -> None:
    """Run the attestor until SIGTERM or Ctrl-C.

    The first run takes an invite, from a file or standard input, because it holds a
    secret; the runs after that need none. Every key of the TOML file is a flag, too.
    When the Workload API serves, it prints SPIFFE_ENDPOINT_SOCKET=unix://PATH; it logs
    to standard error, JSON lines where that is no terminal.

    \b
    Example:
      cognomen attestor run --state ~/attestor --workload-socket ~/attestor/api.sock --invite invite
    """  # noqa: D301 - \b is click's mark
    loaded = load(config, AttestorConfig, flags)
    socket = check_socket_path(loaded.workload_socket)

    from attestor.main import run as run_main  # noqa: PLC0415 - loads everything
    from cognomen.daemon.invite import Invite  # noqa: PLC0415
    from cognomen.daemon.systemd import Systemd  # noqa: PLC0415

    systemd = Systemd.from_environment(os.environ)
    invite = Invite.parse(read_source(source)) if source is not None else None
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
@click.option("--invite", "source", metavar="FILE|-", required=True, help="Made by: cognomen node invite --node ID.")
def rejoin(config: Path | None, log_level: str, source: str, **flags: object) -> None:
    """Join again as the same node, after it was away for too long.

    For an attestor that does not run; it prints the node's SPIFFE ID and ends. A node
    whose SVID ran out within the issuer's return window needs none of this: it comes
    back by itself.

    \b
    Example:
      cognomen attestor rejoin --state ~/attestor --invite invite
    """  # noqa: D301 - \b is click's mark
    loaded = load(config, AttestorConfig, flags)

    from attestor.main import rejoin as rejoin_main  # noqa: PLC0415 - loads everything
    from cognomen.daemon.invite import Invite  # noqa: PLC0415

    invite = Invite.parse(read_source(source))
    run(log_level, lambda: rejoin_main(loaded, invite, lambda spiffe_id: click.echo(str(spiffe_id))))


@attestor.command(params=config_options(AttestorConfig, _HELPS, {"state_dir": "--state"}))
@output_option
def check(config: Path | None, log_level: str, output: str, **flags: object) -> None:
    """Check a configuration without starting anything, and show what it comes to.

    \b
    Example:
      cognomen attestor check --config /etc/cognomen/attestor.toml
    """  # noqa: D301 - \b is click's mark
    del log_level
    loaded = load(config, AttestorConfig, flags)
    check_socket_path(loaded.workload_socket)
    print_config(loaded, output)


@attestor.command()
@attestor_socket_option
def healthcheck(socket: str) -> int:
    """Say whether this node's attestor serves: it has joined, and has a whole snapshot of its issuer.

    Exit code 0 when it does, 1 when not yet, 3 when nobody answers.

    \b
    Example:
      cognomen attestor healthcheck --socket unix:///run/cognomen/api.sock
    """  # noqa: D301 - \b is click's mark
    from cognomen.cli.health import tell_health  # noqa: PLC0415 - loads gRPC

    return tell_health(endpoint_target(check_workload_api(workload_address(socket))))
