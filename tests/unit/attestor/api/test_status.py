"""Refusals as the statuses that workloads see."""

import pytest
from grpclib.const import Status

from attestor.api.status import counting, translate
from attestor.metrics import Metrics
from cognomen.protocol.errors import Kind, Refused
from svid.errors import X509SVIDError


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.INTERNAL])
def test_a_refusal_says_its_detail_and_keeps_the_hint(kind: Kind) -> None:
    status, detail = translate(Refused(kind, "no identity issued", hint="look at the entries", uid=1))
    assert detail == "no identity issued"
    assert status not in {Status.OK, Status.INTERNAL, Status.UNKNOWN}


@pytest.mark.clause("WE-06", "WE-16", "WE-17")
def test_the_statuses_that_the_standard_names() -> None:
    assert translate(Refused(Kind.INVALID, ""))[0] is Status.INVALID_ARGUMENT
    assert translate(Refused(Kind.UNAVAILABLE, ""))[0] is Status.UNAVAILABLE
    assert translate(Refused(Kind.DENIED, ""))[0] is Status.PERMISSION_DENIED


@pytest.mark.parametrize(
    "err",
    [Refused(Kind.INTERNAL, "secret", hint="secret"), X509SVIDError("secret"), ValueError("secret"), KeyError()],
    ids=["internal", "SVID error", "value", "key"],
)
def test_what_was_not_refused_is_our_fault_and_says_nothing_else(err: Exception) -> None:
    assert translate(err) == (Status.INTERNAL, "internal error")


def test_refusals_are_counted_by_kind_and_surprises_as_internal() -> None:
    metrics = Metrics()
    translate_and_count = counting(metrics)
    denied = Refused(Kind.DENIED, "no identity issued")
    assert translate_and_count(denied) == translate(denied)
    translate_and_count(KeyError())
    for kind in Kind:
        found = metrics.registry.get_sample_value("cognomen_attestor_workload_refusals_total", {"reason": kind})
        assert found == (kind in {Kind.DENIED, Kind.INTERNAL})
