"""deploy/: each expression of the dashboard and of the alert rules names metrics and labels that the daemons have."""

import json
from collections import Counter as Counting
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter
from promql_parser import AggregateExpr, BinaryExpr, Call, Expr, MatrixSelector, VectorSelector, parse, walk

import attestor.metrics
import issuer.metrics
from tests.doubles.project import ROOT

DEPLOY = ROOT / "deploy"
FROM_SCRAPING = {"instance", "job"}
OF_A_COUNTER = {"rate", "increase"}


def known(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    """Each sample's name as a collector reads it, and the labels that it can have."""
    for collector, names in registry._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        suffix = "_total" if isinstance(collector, Counter) else ""
        for name in names:
            if name.endswith(suffix):
                yield name, labels | ({"le"} if name.endswith("_bucket") else set())


LABELS_OF: dict[str, set[str]] = {
    "up": set(),
    **dict(known(issuer.metrics.Metrics().registry)),
    **dict(known(attestor.metrics.Metrics().registry)),
}


def faults(expression: str) -> list[str]:
    """What an expression names that is not there, and each counter that is looked at as it stands."""
    named: list[VectorSelector] = []
    rated: Counting[str] = Counting()
    grouped: set[str] = set()

    def look(node: Expr) -> None:
        if isinstance(node, Call) and node.func.name in OF_A_COUNTER:
            rated.update(arg.vector_selector.name or "" for arg in node.args if isinstance(arg, MatrixSelector))
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)
        if isinstance(node, BinaryExpr) and node.modifier is not None and node.modifier.matching is not None:
            grouped.update(node.modifier.matching.labels)
        if isinstance(node, VectorSelector):  # also within a MatrixSelector
            named.append(node)

    walk(parse(expression), look)
    found: list[str] = [] if named else ["no metric"]
    for selector in named:
        name = selector.name or ""
        labels = {matcher.name for matcher in selector.matchers.matchers} | grouped
        found.extend(f"label {label} of {name}" for label in labels - LABELS_OF.get(name, set()) - FROM_SCRAPING)
        if name not in LABELS_OF:
            found.append(f"metric {name!r}")
    uses = Counting(selector.name or "" for selector in named)
    return found + [f"counter {name} as it stands" for name in uses - rated if name.endswith("_total")]


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
    assert faults(expression) == []


@pytest.mark.parametrize(
    "expression",
    [
        "vector(1)",
        "cognomen_issuer_node",
        "node_cpu_seconds",
        "rate(cognomen_issuer_admission_refusals[5m])",
        "cognomen_issuer_admission_refusals_total",
        "delta(cognomen_issuer_admission_refusals_total[5m])",
        'cognomen_issuer_troubles{daemon!="a"}',
        "sum by(daemon) (cognomen_issuer_troubles)",
        "sum without (daemon) (cognomen_issuer_troubles)",
        "cognomen_issuer_troubles / on(daemon) cognomen_issuer_nodes",
    ],
)
def test_a_wrong_expression_is_found(expression: str) -> None:
    assert len(faults(expression)) >= 1


@pytest.mark.parametrize(
    "expression", ["sum(cognomen_issuer_nodes", "rate(cognomen_issuer_nodes)", "cognomen_issuer_nodes >> 1"]
)
def test_what_is_no_promql_is_found(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        faults(expression)


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
