"""`cognomen fetch`: be a workload, and see what the Workload API gives to this very process."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from cognomen.cli.fileset import write_set
from cognomen.cli.hook import exec_option, run_hook
from cognomen.cli.options import GivenPath, output_option, workload_address, workload_socket_option
from cognomen.cli.output import print_json, print_table, warn
from cognomen.cli.reach import check_workload_api
from cognomen.cli.watching import changes, heed_ctrl_c, tokens, wait_for
from cognomen.daemon.audiences import MAX_AUDIENCES, MAX_SUM_BYTES
from cognomen.daemon.errors import Kind, Refused
from cognomen.wire.admin import moment_to_text
from svid.bundle import Bundle
from svid.crl import CRL, crls_to_pem
from svid.encoding import JSON
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID, TrustDomain
from svid.wire.workload import X509Context
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import JWTSource, X509Source
from svid.x509svid import X509SVID

__all__ = ["fetch"]

_SVID = TypeVar("_SVID", X509SVID, JWTSVID)
_AUDIENCE = f"Who the token is for; repeatable up to {MAX_AUDIENCES} times, {MAX_SUM_BYTES} bytes together."
_HOOK_FAILED = 1


def _watching(_context: click.Context, _parameter: click.Parameter, watch: bool) -> bool:
    if watch:
        heed_ctrl_c()
    return watch


_watch_option = click.option(
    "--watch", is_flag=True, callback=_watching, help="Stay, and tell each change until Ctrl-C."
)
_write_option = click.option(
    "--write",
    "directory",
    type=GivenPath(),
    metavar="DIR",
    help="Write files, all of them replaced at once.",
)


@click.group()
def fetch() -> None:
    """Be a workload: fetch what the Workload API gives to this process."""


@fetch.command()
@click.option("--spiffe-id", help="This one of several identities, by its SPIFFE ID or path.  [default: the first]")
@_watch_option
@_write_option
@exec_option
@output_option
@workload_socket_option
def x509(
    spiffe_id: str | None,
    watch: bool,
    directory: Path | None,
    command: tuple[str, ...],
    output: str,
    socket: str | None,
) -> int:
    """Fetch X509-SVIDs.

    --write makes svid.pem (the chain), svid_key.pem (mode 0600), bundle.pem and crl.pem
    (the revocation lists of the bundle's authorities; no file where there are none) of
    one identity; private keys are not printed. --exec runs after each change, never twice
    at once; when it fails, --watch goes on, and without --watch the exit code is 1.

    While nothing is issued to this process, --watch waits. The files stay as they are
    then, the lists included: to a process without an identity the attestor gives neither.

    \b
    Examples:
      cognomen fetch x509 --watch --write /run/web/identity
      cognomen fetch x509 --watch --write /run/db/identity --exec "pg_ctl reload -D /var/lib/db"
    """  # noqa: D301 - \b is click's mark
    with closing(
        _x509_contexts(workload_address(socket), watch=watch)
    ) as contexts:  # so that Ctrl-C ends its thread wherever it comes
        is_well, shown = True, list[dict[str, JSON]]()
        for number, context in enumerate(contexts):
            try:
                svids = _chosen(context.svids, spiffe_id)
            except Refused as e:
                if not number:
                    raise
                warn(f"{e.detail}; waiting for it")  # one that was revoked is followed by another
                continue
            if directory is not None:
                bundle = context.bundles[svids[0].spiffe_id.trust_domain]
                write_set(
                    directory,
                    private={"svid_key.pem": svids[0].key_pem()},
                    public={
                        "svid.pem": svids[0].chain_pem(),
                        "bundle.pem": bundle.to_pem(),
                        **_crl_file(context.crls, bundle),
                    },
                )
            documents = [_x509_document(one, context) for one in svids]
            if documents != shown:  # else it is the revocation lists that changed
                _print_svids(documents, ("serial", "not_before", "not_after"), output)
                shown = documents
            is_well = run_hook(command, directory)
        return _code(is_well)


@fetch.command()
@click.option("--audience", "audiences", multiple=True, required=True, help=_AUDIENCE)
@click.option("--spiffe-id", help="The token of this identity only, by its SPIFFE ID or path.")
@_watch_option
@_write_option
@exec_option
@output_option
@workload_socket_option
def jwt(
    audiences: tuple[str, ...],
    spiffe_id: str | None,
    watch: bool,
    directory: Path | None,
    command: tuple[str, ...],
    output: str,
    socket: str | None,
) -> int:
    """Fetch JWT-SVIDs.

    --write makes jwt_svid.token (mode 0600) of the first identity; --watch fetches again
    at half of its life, and --exec runs after each time.

    \b
    Example:
      cognomen fetch jwt --audience db --output json | jq -r '.svids[0].svid'
    """  # noqa: D301 - \b is click's mark
    wanted = SpiffeID.parse(spiffe_id) if spiffe_id is not None and not spiffe_id.startswith("/") else None
    with WorkloadAPIClient(_checked(workload_address(socket), watch=watch)) as client:

        def found() -> Sequence[JWTSVID]:
            return _chosen(client.fetch_jwt_svids(audiences, spiffe_id=wanted), spiffe_id)

        is_well = True
        for svids in tokens(found) if watch else [found()]:
            if directory is not None:
                write_set(directory, private={"jwt_svid.token": svids[0].token.encode()}, public={})
            _print_svids([_jwt_document(one) for one in svids], ("audiences", "expires_at", "svid"), output)
            is_well = run_hook(command, directory)
        return _code(is_well)


@fetch.command()
@_watch_option
@_write_option
@exec_option
@output_option
@workload_socket_option
def bundles(watch: bool, directory: Path | None, command: tuple[str, ...], output: str, socket: str | None) -> int:
    """Fetch trust bundles, of this trust domain and of those it federates with.

    --write makes NAME.pem (X.509 authorities) and NAME.json (SPIFFE bundle) of each trust
    domain. --exec runs after each change.

    \b
    Example:
      cognomen fetch bundles --output json | jq '.bundles["example.org"]'
    """  # noqa: D301 - \b is click's mark
    with closing(
        _bundle_sets(workload_address(socket), watch=watch)
    ) as sets:  # so that Ctrl-C ends its thread wherever it comes
        is_well = True
        for found in sets:
            if directory is not None:
                pem = {f"{name}.pem": one.to_pem() for name, one in found.items()}
                write_set(
                    directory,
                    private={},
                    public={**pem, **{f"{name}.json": one.to_jwks() for name, one in found.items()}},
                )
            if output == "json":
                print_json({"bundles": {name.name: json.loads(one.to_jwks()) for name, one in found.items()}})
            else:
                columns = ("trust_domain", "x509_authorities", "jwt_authorities")
                print_table(
                    columns,
                    [[name.name, len(one.x509_authorities), len(one.jwt_authorities)] for name, one in found.items()],
                )
            is_well = run_hook(command, directory)
        return _code(is_well)


def _crl_file(crls: Sequence[CRL], bundle: Bundle) -> dict[str, bytes]:
    """The lists of the bundle's authorities; a reader refuses an empty file, so that there is none where nothing goes in."""
    own = [crl.der for crl in crls if any(map(crl.is_of, bundle.x509_authorities))]
    return {"crl.pem": crls_to_pem(own)} if own else {}


def _code(is_well: bool) -> int:
    """The exit code: the last command that was run by --exec has a say."""
    return 0 if is_well else _HOOK_FAILED


def _chosen(svids: Sequence[_SVID], spiffe_id: str | None) -> Sequence[_SVID]:
    """Those that were asked for, by SPIFFE ID or path."""
    chosen = [one for one in svids if spiffe_id is None or spiffe_id in {str(one.spiffe_id), one.spiffe_id.path}]
    if not chosen:
        held = ", ".join(str(one.spiffe_id) for one in svids)
        raise Refused(
            Kind.NOT_FOUND,
            f"--spiffe-id: expected one of {held}, found {spiffe_id!r}",
            hint="cognomen why says what the others lack; a revocation may block one: cognomen revoke list",
        )
    return chosen


def _x509_contexts(address: str | None, *, watch: bool) -> Generator[X509Context, None, None]:
    """The answer of now, and with `watch` each one after it."""
    if not watch:
        with WorkloadAPIClient(check_workload_api(address)) as client:
            yield client.fetch_x509_context()
        return
    wait_for(address)
    with X509Source(address, timeout=None) as source:
        for (context,) in changes(lambda: (source.context,), source.subscribe):
            yield context


def _bundle_sets(address: str | None, *, watch: bool) -> Generator[Mapping[TrustDomain, Bundle], None, None]:
    if not watch:
        with WorkloadAPIClient(check_workload_api(address)) as client:
            yield _joined(client.fetch_x509_bundles(), client.fetch_jwt_bundles())
        return
    wait_for(address)
    with X509Source(address, timeout=None) as x509_source, JWTSource(address, timeout=None) as jwt_source:
        subscribes = x509_source.subscribe, jwt_source.subscribe
        for x509_bundles, jwt_bundles in changes(lambda: (x509_source.bundles, jwt_source.bundles), *subscribes):
            yield _joined(x509_bundles, jwt_bundles)


def _checked(address: str | None, *, watch: bool) -> str | None:
    """The address, tried; who watches is only told where nobody is there yet."""
    if not watch:
        return check_workload_api(address)
    wait_for(address)
    return address


def _joined(
    x509_bundles: Mapping[TrustDomain, Bundle], jwt_bundles: Mapping[TrustDomain, Bundle]
) -> dict[TrustDomain, Bundle]:
    """One bundle for each trust domain, of what the two calls say about it."""
    joined = dict(jwt_bundles)
    for name, one in x509_bundles.items():
        jwt_authorities = jwt_bundles[name].jwt_authorities if name in jwt_bundles else {}
        joined[name] = replace(one, jwt_authorities=jwt_authorities)
    return joined


def _x509_document(svid: X509SVID, context: X509Context) -> dict[str, JSON]:
    return {
        "spiffe_id": str(svid.spiffe_id),
        "hint": svid.hint,
        "serial": f"{svid.serial:x}",
        "not_before": moment_to_text(svid.not_before),
        "not_after": moment_to_text(svid.not_after),
        "x509_svid": svid.chain_pem().decode(),
        "bundle": context.bundles[svid.spiffe_id.trust_domain].to_pem().decode(),
    }


def _jwt_document(svid: JWTSVID) -> dict[str, JSON]:
    return {
        "spiffe_id": str(svid.spiffe_id),
        "hint": svid.hint,
        "audiences": list(svid.audiences),
        "expires_at": moment_to_text(svid.expires_at),
        "svid": svid.token,
    }


def _print_svids(documents: list[dict[str, JSON]], columns: tuple[str, ...], output: str) -> None:
    if output == "json":
        print_json({"svids": documents})
        return
    columns = ("spiffe_id", "hint", *columns)
    print_table(columns, [[document[key] for key in columns] for document in documents])
