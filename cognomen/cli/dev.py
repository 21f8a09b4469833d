"""`cognomen dev`: an issuer and an attestor in one process, for a working socket at once."""

import os
from datetime import timedelta
from pathlib import Path

import click

from cognomen.cli.deventries import Identity
from cognomen.cli.devstate import DevState, Kept
from cognomen.cli.options import GivenPath, duration
from cognomen.cli.running import check_socket_path, run
from cognomen.daemon.config import expand_home, load
from cognomen.protocol.durations import format_duration
from cognomen.protocol.selector import Selector
from issuer.config import IssuerConfig
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["dev"]

_NODE_TTL = "1d"  # how long dev may be off before its node has to join again


def _identity(text: str) -> Identity:
    path, equals, selectors = text.partition("=")
    try:
        if not equals or not path.startswith("/"):
            raise click.BadParameter(f"expected /PATH=SELECTOR[,SELECTOR…], found {text!r}")
        SpiffeID(trust_domain=TrustDomain("example.org"), path=path)
        return Identity(path=path, selectors=frozenset(map(Selector.parse, selectors.split(","))))
    except SVIDError as e:
        raise click.BadParameter(str(e)) from e


def _trust_domain(text: str) -> TrustDomain:
    try:
        return TrustDomain.parse(text)
    except SVIDError as e:
        raise click.BadParameter(str(e)) from e


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(expand_home(path).absolute())


@click.command()
@click.option(
    "--state",
    type=GivenPath(),
    default="~/.local/state/cognomen/dev",
    show_default=True,
    help="Where the database, keys and node are kept between runs.",
)
@click.option("--socket", type=GivenPath(), help="The Workload API's socket.  [default: run/api.sock in --state]")
@click.option(
    "--trust-domain",
    type=_trust_domain,
    default="example.org",
    show_default=True,
    help="The trust domain's name.",
    metavar="NAME",
)
@click.option("--x509-ttl", type=duration, help="Lifetime of X509-SVIDs, such as 30s.  [default: 1h]")
@click.option("--jwt-ttl", type=duration, help="Lifetime of JWT-SVIDs, such as 30s.  [default: 5m]")
@click.option(
    "--jwt-issuer",
    metavar="URL",
    help="The https URL that JWT-SVIDs name as issuer, for OIDC.  [default: none]",
)
@click.option(
    "--web-address", metavar="HOST:PORT", help="Where the keys of --jwt-issuer are served.  [default: nowhere]"
)
@click.option("--web-certificate-file", type=GivenPath(), help="PEM: serve --web-address over HTTPS with this chain.")
@click.option("--web-key-file", type=GivenPath(), help="PEM: the private key of that certificate.")
@click.option("--web-behind-proxy", is_flag=True, help="Serve --web-address over HTTP to a proxy that serves HTTPS.")
@click.option(
    "--entry",
    "identities",
    type=_identity,
    multiple=True,
    metavar="PATH=SELECTOR[,SELECTOR…]",
    help="An identity and the selectors that prove it; PATH ends at the first =. Repeatable: a program's first identity is its default."
    "  [default: /dev/self for your uid]",
)
@click.option("--no-entry", is_flag=True, help="Make no entry: a rulebook, or you, will make them.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="How much to log.",
)
def dev(
    state: Path,
    socket: Path | None,
    trust_domain: TrustDomain,
    x509_ttl: timedelta | None,
    jwt_ttl: timedelta | None,
    jwt_issuer: str | None,
    web_address: str | None,
    web_certificate_file: Path | None,
    web_key_file: Path | None,
    web_behind_proxy: bool,
    identities: tuple[Identity, ...],
    log_level: str,
    *,
    no_entry: bool,
) -> None:
    """Run an issuer and an attestor on this machine until Ctrl-C.

    When the Workload API is ready, the command prints SPIFFE_ENDPOINT_SOCKET=unix://PATH.
    A run with the same --state continues where the last one ended, however long ago that
    was; a run whose machine slept also continues. Entries of an earlier run that you no
    longer ask for are removed.

    No other user can enter the state directory. For programs of other uids, name a --socket
    in a directory that they can enter. For the issuer's commands, use
    --socket STATE/admin/issuer.sock.

    To try relying parties of OpenID Connect, give --jwt-issuer and --web-address, and either
    a certificate with its key, or --web-behind-proxy.

    \b
    Examples:
      cognomen dev
      cognomen dev --x509-ttl 30s \\
        --entry /web=unix:uid:1000,unix:path:/usr/bin/python3.11
      cognomen dev --socket /run/dev/api.sock --entry /web=unix:uid:1001 \\
        --entry /db=unix:uid:1002
      cognomen dev --no-entry
    """  # noqa: D301 - \b is click's mark
    directory = DevState(path=expand_home(state).absolute())
    workload_socket = check_socket_path(socket or directory.path / "run" / "api.sock")
    check_socket_path(directory.admin_socket)
    if no_entry and identities:
        raise click.UsageError("--no-entry and --entry exclude each other")
    own_uid = Identity(path="/dev/self", selectors=frozenset({Selector("unix", f"uid:{os.geteuid()}")}))
    with directory.taken():
        kept = directory.load(trust_domain.name)
        here = kept or Kept.fresh(trust_domain.name)
        flags = {
            "trust_domain": trust_domain.name,
            "state_dir": str(directory.path / "issuer"),
            "admin_socket": str(directory.admin_socket),
            "node_address": here.node_address,
            "join_address": here.join_address,
            "node_svid_ttl": _NODE_TTL,
            "disk_reserve_mib": 1,
            "x509_svid_ttl": None if x509_ttl is None else format_duration(x509_ttl),
            "jwt_svid_ttl": None if jwt_ttl is None else format_duration(jwt_ttl),
            "jwt_issuer": jwt_issuer,
            "web_address": web_address,
            "web_certificate_file": _absolute(web_certificate_file),
            "web_key_file": _absolute(web_key_file),
            "web_behind_proxy": web_behind_proxy or None,
        }
        config = load(None, IssuerConfig, flags)

        from cognomen.cli.devrun import DevDaemons  # noqa: PLC0415 - loads both daemons

        run(
            log_level,
            DevDaemons(directory, kept, config, workload_socket, identities or (() if no_entry else (own_uid,))).run,
        )
