"""`cognomen fetch`: fetch what the Workload API gives to this process, as a workload does."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
from click.core import ParameterSource

from cognomen.cli.answers import bundle_sets, checked_address, held_tokens, x509_contexts
from cognomen.cli.bundleforms import NO_ISSUER
from cognomen.cli.hook import exec_option
from cognomen.cli.keeping import Keeper, WhenDenied
from cognomen.cli.options import GivenPath, named_audience, output_option, workload_address, workload_socket_option
from cognomen.cli.output import Columns, View, print_json, print_table, same_columns, warn
from cognomen.cli.signals import heed_signals
from cognomen.cli.svidfiles import Form, Forms, also_option, password_option
from cognomen.cli.watching import Tokens, tokens
from cognomen.cli.withheld import Withheld, asked_tokens
from cognomen.protocol.audiences import MAX_AUDIENCES, MAX_SUM_BYTES
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.admin import moment_to_text
from svid.bundle import Bundle
from svid.encoding import JSON
from svid.errors import WorkloadAPIError
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID, TrustDomain
from svid.wire.workload import X509Context
from svid.workloadapi.client import WorkloadAPIClient
from svid.x509svid import X509SVID

__all__ = ["fetch"]

_X509 = Columns(
    table=("spiffe_id", "serial", "not_after"), wide=("spiffe_id", "hint", "serial", "not_before", "not_after")
)
_JWT = Columns(
    table=("spiffe_id", "audiences", "expires_at", "svid"),
    wide=("spiffe_id", "hint", "audiences", "expires_at", "svid"),
)
_WRITTEN = Columns(
    table=("spiffe_id", "audiences", "expires_at", "file"),
    wide=("spiffe_id", "hint", "audiences", "expires_at", "file"),
)
_BUNDLES = same_columns("trust_domain", "x509_authorities", "jwt_authorities")
_DIGEST_DIGITS = 32
_MOST_NAME_BYTES = 232  # NAME_MAX is 255; less .json, and what wholefile adds to the name while it writes
_SVID = TypeVar("_SVID", X509SVID, JWTSVID)
_AUDIENCE = f"Whom the token is for; repeatable up to {MAX_AUDIENCES} times, {MAX_SUM_BYTES} bytes together."


def _watching(_context: click.Context, _parameter: click.Parameter, watch: bool) -> bool:
    if watch:
        heed_signals()
    return watch


_watch_option = click.option(
    "--watch", is_flag=True, callback=_watching, help="Keep running, and show each change until Ctrl-C or SIGTERM."
)
_write_option = click.option(
    "--write",
    "directory",
    type=GivenPath(),
    metavar="DIR",
    help="Write files into this directory, which nobody else may write (but see --shared-directory); all are replaced at once, and with"
    " --watch, no other fetch may write there.",
)
_exec_option = exec_option(
    "Run this after each change, without a shell, for a minute at most. COGNOMEN_DIRECTORY is the directory of --write,"
    " COGNOMEN_IDENTITY is issued or denied."
)
_shared_option = click.option(
    "--shared-directory",
    "shared",
    is_flag=True,
    help="Accept a --write directory that others may write, such as a Kubernetes emptyDir, and trust them: they can replace what"
    " readers find there.",
)
_when_denied_option = click.option(
    "--when-denied",
    type=click.Choice([str(choice) for choice in WhenDenied]),
    default=str(WhenDenied.MARK),
    show_default=True,
    callback=lambda _context, _parameter, text: WhenDenied(text),
    help="What --watch does with the files when the identity is taken away: add a file `denied`, or also remove the others.",
)


@click.group()
def fetch() -> None:
    """Fetch what the Workload API gives to this process, as a workload does."""


@fetch.command()
@click.option("--spiffe-id", help="Which of several identities, by SPIFFE ID or path.  [default: the first]")
@_watch_option
@_write_option
@also_option
@password_option
@_shared_option
@_when_denied_option
@_exec_option
@output_option
@workload_socket_option
def x509(
    spiffe_id: str | None,
    watch: bool,
    directory: Path | None,
    also: tuple[Form, ...],
    password_file: Path | None,
    shared: bool,
    when_denied: WhenDenied,
    command: tuple[str, ...],
    output: str,
    socket: str | None,
) -> int:
    """Fetch X509-SVIDs.

    --write writes the files of one identity: svid.pem (the chain), svid_key.pem (mode 0600),
    bundle.pem and crl.pem (the revocation lists of the bundle's authorities; no file if there
    are none). --also adds the key in another form: svid_combined.pem (chain and key in one
    file), svid.pem.key (where HAProxy looks for the key of svid.pem), or svid.p12 (PKCS #12,
    as Java reads it). Private keys are not printed. --exec runs after each change, never twice at
    once. If it fails, --watch continues; without --watch, the exit code is 1.

    --watch waits while this process has no identity, or while the attestor does not answer.
    If it cannot write, as on a full disk, it keeps the old files and tries again. When the
    identity is taken away, it adds a file `denied` with the time and the reason or, with
    --when-denied remove, leaves only that file. `denied` disappears when there is an identity
    again.

    \b
    Examples:
      cognomen fetch x509 --watch --write /run/web/identity
      cognomen fetch x509 --watch --write /run/db/identity \\
        --exec "pg_ctl reload -D /var/lib/db"
      cognomen fetch x509 --watch --write /identity --shared-directory
      cognomen fetch x509 --write /run/app/identity --also pkcs12 \\
        --password-file /etc/app/password
    """  # noqa: D301 - \b is click's mark
    if directory is None and (also or password_file is not None):
        raise click.UsageError("--also and --password-file need --write")
    forms = Forms.asked(also, password_file)
    keeper = _keeper(directory, command, shared=shared, watch=watch, when_denied=when_denied)
    shown, held = list[dict[str, JSON]](), None
    with closing(
        x509_contexts(workload_address(socket), keeper, watch=watch)
    ) as contexts:  # so that Ctrl-C always ends its thread
        for context in contexts:
            if isinstance(context, WorkloadAPIError):
                keeper.deny(str(context))
                continue
            try:
                svids = _chosen(context.svids, spiffe_id)
            except Refused as e:
                if not watch:
                    raise
                if not keeper.is_due():
                    warn(f"{e.detail}; waiting for it")  # after a revocation there may be another
                keeper.deny(e.detail, None if held is None else forms.of(held, context))
                continue
            held = svids[0]
            documents = [_x509_document(one, context) for one in svids]
            is_new, shown = documents != shown, documents  # if it is not new, only the revocation lists changed

            def show(documents: list[dict[str, JSON]] = documents, *, is_new: bool = is_new) -> None:
                if is_new:
                    _print_svids(documents, _X509, output)

            keeper.keep(forms.of(held, context), show, until=held.not_after)
    return keeper.code()


@fetch.command()
@click.option("--audience", "audiences", multiple=True, help=_AUDIENCE)
@click.option(
    "--token",
    "named",
    multiple=True,
    type=named_audience,
    metavar="NAME=AUDIENCE",
    help="Write a token for that audience alone into the file NAME of the --write directory; repeatable.",
)
@click.option("--spiffe-id", help="Only the token of this identity, by SPIFFE ID or path.")
@_watch_option
@_write_option
@_shared_option
@_when_denied_option
@_exec_option
@output_option
@workload_socket_option
def jwt(
    audiences: tuple[str, ...],
    named: tuple[tuple[str, str], ...],
    spiffe_id: str | None,
    watch: bool,
    directory: Path | None,
    shared: bool,
    when_denied: WhenDenied,
    command: tuple[str, ...],
    output: str,
    socket: str | None,
) -> int:
    """Fetch JWT-SVIDs.

    --write writes jwt_svid.token (mode 0600) for the first identity: one token for all
    --audience. --token writes one more file, for one audience, for programs that read their
    token from a file. With --write, no token is printed. If the identity may not have one of
    several tokens, the others are written, a warning says why, and the exit code is 1; --watch
    continues, and asks again with the others.

    --watch fetches new tokens at half of their life, and at once if a token is revoked or its
    authority leaves the bundle; --exec runs each time. When the identity is taken away, the
    files are marked at once or, with --when-denied remove, removed, and `revoke --wait` waits
    for it.

    \b
    Examples:
      cognomen fetch jwt --audience db --output json | jq -r '.svids[0].svid'
      cognomen fetch jwt --watch --write /run/agent/tokens \\
        --token model=https://api.example.com --token cloud=sts.example.com
    """  # noqa: D301 - \b is click's mark
    asked = asked_tokens(audiences, named, directory)
    wanted = SpiffeID.parse(spiffe_id) if spiffe_id is not None and not spiffe_id.startswith("/") else None
    keeper, is_told = _keeper(directory, command, shared=shared, watch=watch, when_denied=when_denied), False
    withheld = Withheld()
    with (
        WorkloadAPIClient(address := checked_address(workload_address(socket), watch=watch)) as client,
        held_tokens(address, watch=watch) as held,
    ):

        def fetched(whom: Sequence[str]) -> Sequence[JWTSVID]:
            svids = client.fetch_jwt_svids(whom, spiffe_id=wanted)
            try:
                return _chosen(svids, spiffe_id)
            except Refused as e:
                if not watch:
                    raise
                raise WorkloadAPIError(e.detail, code="PERMISSION_DENIED") from e

        def found() -> Tokens:
            return withheld.sift({name: partial(fetched, whom) for name, whom in asked.items()})

        for svids in tokens(found, held, is_due=keeper.is_due, at_rest=keeper.look) if watch else [found()]:
            if isinstance(svids, WorkloadAPIError):
                keeper.deny(str(svids))
                continue
            if directory is None:
                shown, columns = [_shown(one) for each in svids.values() for one in each], _JWT
            else:
                shown, columns = [one for name, each in svids.items() for one in _written(name, each)], _WRITTEN
            files = {name: each[0].token.encode() for name, each in svids.items()}
            if named and not is_told and not all(each[0].claims.get("iss") for each in svids.values()):
                is_told = True
                warn(f"the tokens have {NO_ISSUER}")
            until = min(one.expires_at for each in svids.values() for one in each)
            keeper.keep((files, {}), partial(_print_svids, shown, columns, output), until=until)
        return keeper.code() or withheld.code()


@fetch.command()
@_watch_option
@_write_option
@_shared_option
@_exec_option
@output_option
@workload_socket_option
def bundles(
    watch: bool, directory: Path | None, shared: bool, command: tuple[str, ...], output: str, socket: str | None
) -> int:
    """Fetch the trust bundles of this trust domain and of those it federates with.

    --write writes NAME.pem (X.509 authorities) and NAME.json (SPIFFE bundle) for each trust
    domain. A name over 232 bytes becomes its first 199 bytes, ~, and half of its SHA-256.
    --exec runs after each change.

    \b
    Example:
      cognomen fetch bundles --output json | jq '.bundles["example.org"]'
    """  # noqa: D301 - \b is click's mark
    keeper = _keeper(directory, command, shared=shared, watch=watch)
    with closing(
        bundle_sets(workload_address(socket), keeper, watch=watch)
    ) as sets:  # so that Ctrl-C always ends its thread
        for found in sets:
            pem = {f"{_file_name(name)}.pem": one.to_pem() for name, one in found.items()}
            files = pem | {f"{_file_name(name)}.json": one.to_jwks() for name, one in found.items()}
            keeper.keep(({}, files), partial(_print_bundles, found, output))
    return keeper.code()


def _keeper(
    directory: Path | None,
    command: tuple[str, ...],
    *,
    shared: bool,
    watch: bool,
    when_denied: WhenDenied = WhenDenied.MARK,
) -> Keeper:
    """Make the keeper of the files; refuses a directory that cannot be written before we ask the Workload API for anything."""
    if shared and directory is None:
        raise click.UsageError("--shared-directory needs --write")
    given = click.get_current_context().get_parameter_source("when_denied")
    if given is ParameterSource.COMMANDLINE and not (watch and directory is not None):
        found = "no --watch" if directory is not None else "no --write" if watch else "neither"
        raise click.UsageError(f"--when-denied: expected --watch and --write, found {found}")
    keeper = Keeper(directory, command, watch=watch, shared=shared, when_denied=when_denied)
    click.get_current_context().call_on_close(keeper.close)
    keeper.check()
    return keeper


def _file_name(name: TrustDomain) -> str:
    """The stem of its files: the name or, if it is too long for a file system, a name that no trust domain can have."""
    if len(name.name) <= _MOST_NAME_BYTES:
        return name.name
    digest = hashlib.sha256(name.name.encode()).hexdigest()[:_DIGEST_DIGITS]
    return f"{name.name[: _MOST_NAME_BYTES - 1 - _DIGEST_DIGITS]}~{digest}"


def _print_bundles(found: Mapping[TrustDomain, Bundle], output: str) -> None:
    if output == "json":
        print_json({"bundles": {name.name: json.loads(one.to_jwks()) for name, one in found.items()}})
        return
    documents: list[dict[str, JSON]] = [
        {
            "trust_domain": name.name,
            "x509_authorities": len(one.x509_authorities),
            "jwt_authorities": len(one.jwt_authorities),
        }
        for name, one in found.items()
    ]
    print_table(_BUNDLES, documents, View(output=output))


def _chosen(svids: Sequence[_SVID], spiffe_id: str | None) -> Sequence[_SVID]:
    """The requested ones, by SPIFFE ID or path."""
    chosen = [one for one in svids if spiffe_id is None or spiffe_id in {str(one.spiffe_id), one.spiffe_id.path}]
    if not chosen:
        held = ", ".join(str(one.spiffe_id) for one in svids)
        raise Refused(
            Kind.NOT_FOUND,
            f"--spiffe-id: expected one of {held}, found {spiffe_id!r}",
            hint="cognomen why says what this process lacks for others; a revocation may block one: cognomen revoke list",
        )
    return chosen


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
    }


def _shown(svid: JWTSVID) -> dict[str, JSON]:
    return {**_jwt_document(svid), "svid": svid.token}


def _written(name: str, svids: Sequence[JWTSVID]) -> list[dict[str, JSON]]:
    """What is said of tokens of which the first is written to that file: a daemon's output goes to a log, so not the tokens."""
    return [{**_jwt_document(one), "file": "" if number else name} for number, one in enumerate(svids)]


def _print_svids(documents: list[dict[str, JSON]], columns: Columns, output: str) -> None:
    if output == "json":
        print_json({"svids": documents})
        return
    print_table(columns, documents, View(output=output))  # SPIFFE IDs are whole: peers ask for them so
