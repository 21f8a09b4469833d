"""Who may be on the other side."""

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from svid.errors import AuthorizationError, JWTSVIDError, SpiffeIDError
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.authorize import Authorizer, any_in, exactly, matching, strictly

A = SpiffeID.parse("spiffe://example.org/a")
B = SpiffeID.parse("spiffe://example.org/b")
BELOW_A = SpiffeID.parse("spiffe://example.org/a/b")
ELSEWHERE = SpiffeID.parse("spiffe://example.org.evil/a")
CASED = SpiffeID.parse("spiffe://example.org/A")

ACCEPTED = [
    (any_in(TrustDomain("example.org")), {A, B, BELOW_A, CASED}),
    (any_in("example.org"), {A, B, BELOW_A, CASED}),
    (exactly(A), {A}),
    (exactly(A, B), {A, B}),
    (exactly("spiffe://example.org/a", B), {A, B}),
    (matching(lambda peer: peer.is_below("/a")), {BELOW_A}),
]


@pytest.mark.parametrize(("authorize", "accepted"), ACCEPTED)
@pytest.mark.parametrize("peer", [A, B, BELOW_A, ELSEWHERE, CASED], ids=str)
def test_only_who_is_meant_is_accepted(authorize: Authorizer, accepted: set[SpiffeID], peer: SpiffeID) -> None:
    if peer in accepted:
        authorize(peer)
    else:
        with pytest.raises(AuthorizationError, match=re.escape(str(peer))):
            authorize(peer)


def test_a_refusal_says_who_was_expected() -> None:
    with pytest.raises(AuthorizationError, match=r"expected spiffe://example\.org/a or spiffe://example\.org/b, found"):
        exactly(B, A)(CASED)


@pytest.mark.parametrize("text", ["example.org/a", "spiffe://example.org/a/", "spiffe://EXAMPLE.org/a", ""])
def test_a_text_that_is_no_spiffe_id_is_refused_at_once(text: str) -> None:
    with pytest.raises(SpiffeIDError):
        exactly(text)
    with pytest.raises(SpiffeIDError):
        exactly(A, text)


@pytest.mark.parametrize("text", ["spiffe://example.org/a", "Example.org", "example.org ", ""])
def test_a_text_that_is_no_trust_domain_is_refused_at_once(text: str) -> None:
    with pytest.raises(SpiffeIDError):
        any_in(text)


NOBODY: tuple[SpiffeID, ...] = ()
WRONG = [
    lambda: exactly(*NOBODY),
    lambda: exactly(TrustDomain("example.org")),  # type: ignore[arg-type]  # the mistake
    lambda: exactly(b"spiffe://example.org/a"),  # type: ignore[arg-type]  # the mistake
    lambda: exactly([A, B]),  # type: ignore[arg-type]  # the mistake
    lambda: exactly(A, None),  # type: ignore[arg-type]  # the mistake
    lambda: any_in(A),  # type: ignore[arg-type]  # the mistake
    lambda: any_in(None),  # type: ignore[arg-type]  # the mistake
    lambda: matching(True),  # type: ignore[arg-type]  # the mistake
    lambda: matching(yes_later),  # type: ignore[arg-type]  # the mistake
    lambda: A.is_member_of("example.org"),  # type: ignore[arg-type]  # the mistake
]


@pytest.mark.parametrize("make", WRONG)
def test_an_argument_of_another_type_is_refused_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"expected|missing"):
        make()


# what an authorizer of somebody else's may answer


async def yes_later(_: SpiffeID) -> bool:
    return True


async def yes_and_yes(_: SpiffeID) -> AsyncIterator[bool]:
    yield True


def yes_in_turn(_: SpiffeID) -> Iterator[bool]:
    yield True


class Later:
    async def __call__(self, _: SpiffeID) -> bool:
        return True


class Fixed:
    """An authorizer that is an object."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __call__(self, _: SpiffeID) -> object:
        return self.answer


def given(answer: object, _: SpiffeID) -> object:
    return answer


def kind(value: object) -> str:
    return type(value).__name__


SPELLINGS: list[Callable[[object], Callable[[SpiffeID], object]]] = [
    lambda answer: lambda _: answer,
    Fixed,
    lambda answer: functools.partial(given, answer),
]


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("answer", [None, True])
def test_true_and_none_admit(spell: Callable[[object], Callable[[SpiffeID], object]], answer: object) -> None:
    strictly(spell(answer))(A)


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("answer", [False, 0, 1, "", "no", (), [A], object(), A, AuthorizationError("no")], ids=kind)
def test_every_other_answer_refuses(spell: Callable[[object], Callable[[SpiffeID], object]], answer: object) -> None:
    with pytest.raises(AuthorizationError):
        strictly(spell(answer))(A)


def test_an_answer_that_is_neither_yes_nor_no_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AuthorizationError, match="authorizer: expected True, False or None, found an int"):
        strictly(lambda _: 1)(A)
    assert f"authorizer: expected True, False or None, found an int: refused {A}" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        yes_later,
        functools.partial(yes_later),
        Later(),
        yes_in_turn,
        yes_and_yes,
        Later().__call__,
        None,
        True,
        A,
        Fixed,
    ],
    ids=kind,
)
def test_what_cannot_answer_is_refused_when_it_is_given(wrong: object) -> None:
    with pytest.raises(TypeError, match="authorize: expected a function"):
        strictly(wrong)


def test_an_answer_that_comes_later_refuses() -> None:
    with pytest.raises(AuthorizationError, match="found a coroutine"):
        strictly(lambda peer: yes_later(peer))(A)  # noqa: PLW0108 - so that nobody sees that it is async


@pytest.mark.parametrize("uncalled", [any_in, exactly, matching])
def test_a_maker_of_authorizers_that_was_not_called_admits_nobody(uncalled: object) -> None:
    with pytest.raises(AuthorizationError):
        strictly(uncalled)(A)


@pytest.mark.parametrize("error", [LookupError("a bug"), JWTSVIDError("of another token"), PermissionError("no")])
def test_an_error_of_the_authorizer_refuses_and_is_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: SpiffeID) -> None:
        raise error

    with pytest.raises(AuthorizationError, match="authorizer: failed with") as caught:
        strictly(fail)(A)
    assert caught.value.__cause__ is error
    assert f"authorizer failed: refused {A}" in caplog.text


def test_a_refusal_keeps_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: SpiffeID) -> None:
        raise AuthorizationError("not on a Sunday")

    with pytest.raises(AuthorizationError, match="not on a Sunday"):
        strictly(refuse)(A)
    with pytest.raises(AuthorizationError, match=f"{A} is not allowed here"):
        strictly(lambda _: False)(A)
    assert not caplog.text


@pytest.mark.parametrize("answer", [None, 1, "yes", object()])
def test_a_predicate_must_say_true(answer: object) -> None:
    with pytest.raises(AuthorizationError):
        matching(lambda _: answer)(A)  # type: ignore[arg-type,return-value]  # the mistake
