"""What a refusal, a bad value and a surprise become on the wire."""

import pytest
from grpclib.const import Status

from cognomen.protocol.errors import Kind, Refused
from issuer.api.status import refusal_of, translate
from svid.errors import SpiffeIDError

CODES = {
    Kind.INVALID: Status.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: Status.UNAUTHENTICATED,
    Kind.DENIED: Status.PERMISSION_DENIED,
    Kind.NOT_FOUND: Status.NOT_FOUND,
    Kind.EXISTS: Status.ALREADY_EXISTS,
    Kind.CONFLICT: Status.ABORTED,
    Kind.EXHAUSTED: Status.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: Status.UNAVAILABLE,
}


@pytest.mark.parametrize("kind", CODES)
def test_each_kind_has_its_status_and_keeps_its_words(kind: Kind) -> None:
    assert translate(Refused(kind, "field: expected a, found b")) == (CODES[kind], "field: expected a, found b")


def test_the_operators_hint_comes_on_a_line_of_its_own() -> None:
    assert translate(Refused(Kind.INVALID, "no", hint="try this")) == (Status.INVALID_ARGUMENT, "no\ntry this")


def test_a_bad_value_is_the_callers_fault() -> None:
    assert translate(SpiffeIDError("path: expected …")) == (Status.INVALID_ARGUMENT, "path: expected …")


@pytest.mark.parametrize(
    "err", [Refused(Kind.INTERNAL, "key material at 0x1"), ValueError("secret"), KeyError("secret")]
)
def test_our_own_fault_says_nothing_about_itself(err: Exception) -> None:
    assert translate(err) == (Status.INTERNAL, "internal error")
    assert refusal_of(err).hint == ""
