"""What the Workload API answers to `cognomen fetch`: now and, with --watch, again after each change.

How to wait for a change: watching. What is done with an answer: keeping.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from cognomen.cli.heldtokens import HeldTokens
from cognomen.cli.keeping import Keeper
from cognomen.cli.reach import check_workload_api
from cognomen.cli.watching import Absence, changes
from svid.bundle import Bundle
from svid.errors import WorkloadAPIError
from svid.spiffeid import TrustDomain
from svid.wire.workload import X509Context
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import JWTSource, X509Source

__all__ = ["bundle_sets", "checked_address", "held_tokens", "x509_contexts"]


def x509_contexts(
    address: str | None, keeper: Keeper, *, watch: bool
) -> Generator[X509Context | WorkloadAPIError, None, None]:
    """The current answer and, with `watch`, each one after it."""
    if not watch:
        with WorkloadAPIClient(check_workload_api(address)) as client:
            yield client.fetch_x509_context()
        return
    absence = _absence(address)

    def at_rest() -> None:
        absence.look()
        keeper.look()

    with X509Source(address, timeout=None) as source:
        for found in changes(lambda: (source.context,), source.subscribe, is_due=keeper.is_due, at_rest=at_rest):
            yield found if isinstance(found, WorkloadAPIError) else found[0]


def bundle_sets(
    address: str | None, keeper: Keeper, *, watch: bool
) -> Generator[Mapping[TrustDomain, Bundle], None, None]:
    """The current bundles by trust domain and, with `watch`, all of them after each change."""
    if not watch:
        with WorkloadAPIClient(check_workload_api(address)) as client:
            yield _joined(client.fetch_x509_bundles(), client.fetch_jwt_bundles())
        return
    absence = _absence(address)
    with X509Source(address, timeout=None) as x509_source, JWTSource(address, timeout=None) as jwt_source:
        for found in changes(
            lambda: (x509_source.bundles, jwt_source.bundles),
            x509_source.subscribe,
            jwt_source.subscribe,
            is_due=keeper.is_due,
            at_rest=absence.look,
        ):
            if not isinstance(found, WorkloadAPIError):  # what was trusted stays
                yield _joined(*found)


@contextmanager
def held_tokens(address: str | None, *, watch: bool) -> Iterator[HeldTokens]:
    """What is held of the tokens that are fetched; with `watch`, revocations reach them."""
    if not watch:
        yield HeldTokens()
        return
    with JWTSource(address, timeout=None) as source:
        yield HeldTokens(source)


def _absence(address: str | None) -> Absence:
    absence = Absence(address)
    absence.tell()
    return absence


def checked_address(address: str | None, *, watch: bool) -> str | None:
    """Check the address, and return it; with `watch`, only warn if nobody listens there yet."""
    if not watch:
        return check_workload_api(address)
    _absence(address)
    return address


def _joined(
    x509_bundles: Mapping[TrustDomain, Bundle], jwt_bundles: Mapping[TrustDomain, Bundle]
) -> dict[TrustDomain, Bundle]:
    """One bundle for each trust domain, merged from the answers of the two calls."""
    joined = dict(jwt_bundles)
    for name, one in x509_bundles.items():
        jwt_authorities = jwt_bundles[name].jwt_authorities if name in jwt_bundles else {}
        joined[name] = replace(one, jwt_authorities=jwt_authorities)
    return joined
