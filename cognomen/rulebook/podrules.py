"""Which selectors the pods of a ClusterSPIFFEID show, and what its templates are for them.

A label selector with equal labels, or with one of several (`In`), is sets of selectors. What depends on more than these labels cannot be
filled in, because it is another text for each pod.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from cognomen.protocol.selector import Selector
from cognomen.rulebook.faults import shown

__all__ = ["Pods", "Unruled", "filled", "pods_of"]

_NAME_LABEL = "kubernetes.io/metadata.name"
_MOST_SETS = 64
_TEMPLATE = re.compile(r"\{\{-?\s*([^{}]*?)\s*-?\}\}")
_INDEX = re.compile(r'index\s+(\.PodMeta\.Labels)\s+"([^"]+)"')


class Unruled(Exception):  # noqa: N818 - it is an answer
    """Rules cannot say it.

    Args:
        mend: what helps.
    """

    def __init__(self, reason: str, mend: str = "") -> None:
        super().__init__(reason)
        self.reason, self.mend = reason, mend


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """Pods with equal labels.

    Args:
        values: what is the same for all of them, by the expression of templates.
    """

    selectors: frozenset[Selector]
    values: Mapping[str, str]


def pods_of(pods: Mapping[str, object], namespaces: Mapping[str, object], trust_domain: str) -> Iterator[Pods]:
    """Yield the sets of pods that both label selectors select.

    Raises:
        Unruled: they exclude pods, or there are too many sets.
    """
    wanted = [("pod", *one) for one in _wanted(pods, "podSelector")]
    wanted += [("namespace", *one) for one in _wanted(namespaces, "namespaceSelector")]
    count = 1
    for _, _, values in wanted:
        count *= len(values)
        if count > _MOST_SETS:
            raise Unruled(f"its label selectors are more than {_MOST_SETS} sets of selectors", "split it")
    for chosen in product(*(values for _, _, values in wanted)):
        pairs = [(whose, key, value) for (whose, key, _), value in zip(wanted, chosen, strict=True)]
        if len(set(pairs)) == len({(whose, key) for whose, key, _ in pairs}):  # no label has two values
            yield _pods(pairs, {".TrustDomain": trust_domain} if trust_domain else {})


def _pods(labels: Sequence[tuple[str, str, str]], values: dict[str, str]) -> Pods:
    selectors = set()
    for whose, key, value in labels:
        if whose == "pod":
            selectors.add(Selector("k8s", f"pod-label:{key}:{value}"))
            values[f".PodMeta.Labels.{key}"] = value
        elif key == _NAME_LABEL:
            selectors.add(Selector("k8s", f"ns:{value}"))
            values[".PodMeta.Namespace"] = value
        else:
            selectors.add(Selector("k8s", f"ns-label:{key}:{value}"))
    return Pods(selectors=frozenset(selectors), values=values)


def _wanted(selector: Mapping[str, object], name: str) -> Iterator[tuple[str, list[str]]]:
    """The labels of a label selector, with the values that each may have."""
    if unknown := selector.keys() - {"matchLabels", "matchExpressions"}:
        raise Unruled(f"{name}: unknown key {shown(min(unknown))}")
    labels = selector.get("matchLabels") or {}
    if not isinstance(labels, Mapping) or not all(isinstance(one, str) for one in labels.values()):
        raise Unruled(f"{name}.matchLabels: expected labels with texts, found {shown(labels)}")
    yield from ((str(key), [str(value)]) for key, value in labels.items())
    expressions = selector.get("matchExpressions") or []
    if not isinstance(expressions, list):
        raise Unruled(f"{name}.matchExpressions: expected a list, found {shown(expressions)}")
    for one in expressions:
        yield _expression(one, f"{name}.matchExpressions")


def _expression(one: object, name: str) -> tuple[str, list[str]]:
    match one:
        case {"key": str(key), "operator": "In", "values": [_, *_] as values}:
            texts = list(dict.fromkeys(text for text in values if isinstance(text, str)))
            if len(texts) != len(values):
                raise Unruled(f"{name}: expected different texts, found others")
            return key, texts
        case {"operator": str(operator)} if operator != "In":
            problem = f"{name}: rules have equal labels only, found {shown(operator)}"
            raise Unruled(problem, "say which values there are, with In")
        case _:
            raise Unruled(f"{name}: expected key, operator and values, found {shown(one)}")


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with these values.

    Raises:
        Unruled: it needs others.
    """

    def value(found: re.Match[str]) -> str:
        expression = _INDEX.sub(r"\1.\2", found[1])
        if expression not in values:
            raise Unruled(f"its template depends on each pod: {shown(found[0])[1:-1]}", _mend(expression))
        return values[expression]

    text = _TEMPLATE.sub(value, template)
    if "{{" in text or "}}" in text:
        raise Unruled(f"its template cannot be read: {shown(template)[1:-1]}")
    return text


def _mend(expression: str) -> str:
    if expression == ".TrustDomain":
        return "say it: --trust-domain"
    if expression == ".PodMeta.Namespace":
        return f"name the namespaces: {_NAME_LABEL} in namespaceSelector"
    if expression.startswith(".PodMeta.Labels."):
        return "name the values of that label in podSelector"
    return "write a ClusterSPIFFEID without it for each value"
