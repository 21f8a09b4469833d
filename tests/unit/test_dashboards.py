"""deploy/: each expression of the dashboard and of the alert rules names metrics and labels that the daemons have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

import attestor.metrics
import issuer.metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
FROM_SCRAPING = {"instance", "job"}
METRIC = re.compile(r"\b((?:cognomen|process)_[a-z_]+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"([a-z_]+)\s*=~?\s*\"")
GROUPED = re.compile(r"\bby \(([^)]*)\)")


def known(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    """Each sample's name, and the labels that it can have."""
    for collector, names in registry._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        for name in names:
            yield name, labels


LABELS_OF = {
    **dict(known(issuer.metrics.Metrics().registry)),
    **dict(known(attestor.metrics.Metrics().registry)),
}


def rules() -> list[dict[str, object]]:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "cognomen.rules.yml").read_text())["groups"]
    found: list[dict[str, object]] = group["rules"]
    return found


def expressions() -> list[str]:
    panels = json.loads((DEPLOY / "grafana" / "cognomen.json").read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*shown, *(str(rule["expr"]) for rule in rules())]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_what_is_there(expression: str) -> None:
    found = METRIC.findall(expression)
    assert found
    grouped = {label.strip() for labels in GROUPED.findall(expression) for label in labels.split(",")}
    for name, matchers in found:
        assert name in LABELS_OF, name
        assert set(LABEL.findall(matchers)) <= LABELS_OF[name] | FROM_SCRAPING
        assert grouped <= LABELS_OF[name] | FROM_SCRAPING


def test_a_counter_is_never_looked_at_as_it_stands() -> None:
    for expression in expressions():
        for name, _ in METRIC.findall(expression):
            assert not name.endswith("_total") or re.search(rf"(?:rate|increase)\({name}", expression), expression


def test_each_alert_says_what_to_do_and_how_bad_it_is() -> None:
    for rule in rules():
        assert rule["labels"] in ({"severity": "warning"}, {"severity": "critical"})
        assert set(rule["annotations"]) == {"summary"}  # type: ignore[call-overload]  # what YAML gives


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((DEPLOY / "grafana" / "cognomen.json").read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        taken |= cells
