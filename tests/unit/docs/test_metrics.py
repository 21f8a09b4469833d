"""The names of the metrics, and what stands in a registry before anything happened."""

import re

import pytest
from prometheus_client import CollectorRegistry

import attestor.metrics
import issuer.metrics
from tests.doubles.project import ROOT

DOCS = ROOT / "docs" / "metrics.md"


def names(registry: CollectorRegistry) -> set[str]:
    suffix = {"counter": "_total"}
    return {family.name + suffix.get(family.type, "") for family in registry.collect()}


@pytest.mark.parametrize(
    ("registry", "prefix"),
    [
        (issuer.metrics.Metrics().registry, "cognomen_issuer_"),
        (attestor.metrics.Metrics().registry, "cognomen_attestor_"),
    ],
    ids=["issuer", "attestor"],
)
def test_every_name_begins_with_the_daemons_and_is_explained(registry: CollectorRegistry, prefix: str) -> None:
    ours = {name for name in names(registry) if not name.startswith("process_")}
    assert ours
    assert not {name for name in ours if not name.startswith(prefix)}
    text = DOCS.read_text()
    assert not {name for name in ours if f"`{name}`" not in text and f"`{name}{{" not in text}


def test_nothing_is_explained_that_is_not_there() -> None:
    there = names(issuer.metrics.Metrics().registry) | names(attestor.metrics.Metrics().registry)
    told = set(re.findall(r"cognomen_(?:issuer|attestor)_[a-z0-9_]+", DOCS.read_text()))
    assert told <= there


def test_a_counter_stands_at_zero_before_the_first_count() -> None:
    registry = issuer.metrics.Metrics().registry
    labels = {"action": "node call", "reason": "DENIED"}
    assert registry.get_sample_value("cognomen_issuer_admission_refusals_total", labels) == 0


def test_two_issuers_in_one_process_count_apart() -> None:
    first, second = issuer.metrics.Metrics(), issuer.metrics.Metrics()
    first.deferred_writes_lost.inc()
    assert second.registry.get_sample_value("cognomen_issuer_deferred_writes_lost_total") == 0
