"""svid.declared: whom it admits, and when it admits nobody; the callers are given by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest

from svid.errors import AuthorizationError, SVIDError, WorkloadAPIError
from svid.source import KnowsCallers
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Changing, demand_answers_now, matching, strictly
from svid.tls.declared import Declared, declared
from svid.tls.refusals import UnknownCallersError

OWN, OTHER, A, B = (SpiffeID.parse(f"spiffe://example.org/{name}") for name in ("own", "other", "a", "b"))
SECOND = timedelta(seconds=1)


@dataclass
class Known:
    """A source and its callers in one."""

    callers: dict[SpiffeID | None, frozenset[SpiffeID] | None] = field(default_factory=lambda: {OWN: frozenset({A})})
    own: SpiffeID | None = OWN
    silent: timedelta | None = timedelta()
    old: timedelta | None = timedelta()
    fails: SVIDError | None = None

    def declared_callers(self) -> "Known":
        return self

    def called_as(self) -> SpiffeID | None:
        if self.fails is not None:
            raise self.fails
        return self.own

    def of(self, spiffe_id: SpiffeID | None) -> frozenset[SpiffeID] | None:
        if spiffe_id not in self.callers:
            raise WorkloadAPIError("not said yet", code="UNAVAILABLE")
        return self.callers[spiffe_id]

    def silent_for(self) -> timedelta | None:
        return self.silent

    def age(self) -> timedelta | None:
        return self.old

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        return callback

    def wait(self, timeout: timedelta) -> None: ...

    async def ready(self, timeout: timedelta) -> None: ...  # noqa: ASYNC109 - the protocol's


def test_a_declared_caller_is_admitted_and_nobody_else() -> None:
    ask = strictly(declared(Known()))
    ask(A)
    for peer in (B, OWN):
        with pytest.raises(AuthorizationError, match=f"peer: expected a declared caller of {OWN}, found {peer}"):
            ask(peer)


def test_it_is_an_authorizer_like_any_other() -> None:
    authorize = declared(Known())
    assert isinstance(authorize, Changing)
    demand_answers_now(authorize)

    def ask(peer: SpiffeID) -> bool:
        authorize(peer)
        return True

    strictly(matching(ask))(A)
    with pytest.raises(AuthorizationError, match="declared caller"):
        strictly(matching(ask))(B)


def test_it_is_the_identity_of_the_source_that_is_called_unless_another_is_named() -> None:
    known = Known(callers={OWN: frozenset({A}), OTHER: frozenset({B}), None: frozenset({OTHER})})
    declared(known, spiffe_id=str(OTHER))(B)
    declared(known, spiffe_id=OTHER)(B)
    authorize = declared(known)
    known.own = None
    authorize(OTHER)
    with pytest.raises(AuthorizationError, match="a declared caller of the default identity, found"):
        authorize(A)


def test_where_nobody_declared_it_nobody_is_admitted() -> None:
    with pytest.raises(AuthorizationError, match=f"no rule declares who may call {OWN}, found {A}"):
        declared(Known(callers={OWN: None}))(A)


@dataclass(frozen=True, kw_only=True)
class Unknown:
    known: Known
    said: str
    refuse_after: timedelta | None = None


UNKNOWN = [
    Unknown(known=Known(callers={}), said="callers: not said yet"),
    Unknown(known=Known(fails=SVIDError("svid: expired")), said="callers: svid: expired"),
    Unknown(known=Known(silent=None), said="callers: expected word from the attestor within 15 s, found none"),
    Unknown(known=Known(silent=16 * SECOND), said="within 15 s, found none for 16 s"),
    Unknown(
        known=Known(old=61 * SECOND), refuse_after=60 * SECOND, said="expected data at most 60 s old, found data 61 s"
    ),
    Unknown(known=Known(old=None), refuse_after=60 * SECOND, said="expected data at most 60 s old, found none"),
]


@pytest.mark.parametrize("case", UNKNOWN, ids=lambda case: case.said)
def test_while_it_is_not_known_who_may_call_nobody_is_admitted_and_nobody_is_ended(case: Unknown) -> None:
    authorize = declared(case.known, refuse_after=case.refuse_after)
    for ask in (authorize, strictly(authorize)):
        with pytest.raises(UnknownCallersError) as refused:
            ask(A)
        assert case.said in str(refused.value)
    assert not authorize.is_unwanted(A)


@pytest.mark.parametrize("refuse_after", [None, 60 * SECOND])
def test_at_the_limits_a_caller_is_admitted(refuse_after: timedelta | None) -> None:
    declared(Known(silent=15 * SECOND, old=60 * SECOND), refuse_after=refuse_after)(A)


def test_without_a_limit_the_issuers_data_may_be_of_any_age() -> None:
    declared(Known(old=None))(A)
    declared(Known(old=timedelta(days=9)))(A)


def test_only_what_is_certain_ends_a_connection() -> None:
    known = Known(silent=timedelta(hours=1))
    authorize = declared(known)
    assert (authorize.is_unwanted(A), authorize.is_unwanted(B)) == (False, True)
    known.callers = {OWN: None}
    assert authorize.is_unwanted(A)


@pytest.mark.parametrize("source", [None, "x", Known, object()])
def test_a_source_that_does_not_know_who_may_call_is_refused(source: object) -> None:
    with pytest.raises(TypeError, match="source: expected one that knows who may call it, as an X509Source does"):
        declared(cast("KnowsCallers", source))


def test_a_text_that_is_no_spiffe_id_is_refused() -> None:
    with pytest.raises(SVIDError, match="SPIFFE ID"):
        declared(Known(), spiffe_id="own")


async def test_it_waits_for_the_first_answer_as_its_source_does() -> None:
    authorize = declared(Known())
    assert isinstance(authorize, Declared)
    authorize.wait()
    await authorize.ready()
