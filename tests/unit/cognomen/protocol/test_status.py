"""Kinds of refusal and statuses, both ways."""

import grpc
import pytest
from grpclib.const import Status

from cognomen.protocol.errors import Kind, Reason
from cognomen.protocol.status import kind_of_status, reason_of_text, status_of_kind


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_is_a_status_of_both_libraries_and_comes_back(kind: Kind) -> None:
    name = status_of_kind(kind)
    assert (Status[name].name, grpc.StatusCode[name].name) == (name, name)
    assert kind_of_status(name) is kind


@pytest.mark.parametrize("name", ["DEADLINE_EXCEEDED", "CANCELLED"])
def test_a_call_that_was_cut_off_may_be_tried_again(name: str) -> None:
    assert kind_of_status(name) is Kind.UNAVAILABLE


@pytest.mark.parametrize("name", ["UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS"])
def test_a_status_that_we_never_send_means_that_something_is_broken(name: str) -> None:
    assert kind_of_status(name) is Kind.INTERNAL


def test_a_reason_comes_back_and_what_a_peer_of_another_version_says_is_none() -> None:
    assert [reason_of_text(reason.value) for reason in Reason] == list(Reason)
    assert [reason_of_text(text) for text in ("", "tired", None, b"banned")] == [None] * 4
