"""cognomen/rulebook/manifests and podrules: what spire-controller-manager reads, as far as rules can say it."""

from datetime import timedelta

import pytest

from cognomen.rulebook.given import Extra
from cognomen.rulebook.manifests import is_manifest, read_manifests

STATIC: dict[str, object] = {
    "spiffeID": "spiffe://example.org/agent/concierge/crm",
    "parentID": "spiffe://example.org/spire/agent/x509pop/7f3a",
    "selectors": ["unix:uid:1003"],
}
POD: dict[str, object] = {
    "spiffeIDTemplate": "spiffe://example.org/agent/concierge/crm",
    "podSelector": {"matchLabels": {"app": "crm"}},
}


def manifest(kind: str, spec: object, name: str = "crm") -> dict[str, object]:
    return {"apiVersion": "spire.spiffe.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def static(**more: object) -> dict[str, object]:
    return manifest("ClusterStaticEntry", STATIC | more)


def cluster(**more: object) -> dict[str, object]:
    return manifest("ClusterSPIFFEID", POD | more)


def only_expression(key: str, operator: str, *values: str) -> dict[str, object]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": [*values]}]}


def test_a_static_entry_is_read_with_what_it_has() -> None:
    (one,), left_out, faults = read_manifests(
        [static(x509SVIDTTL="1h30m0s", jwtSVIDTTL="1.5m", dnsNames=["b", "a"], storeSVID=True, hint="h")], "m", ""
    )
    assert (left_out, faults) == ([], [])
    assert one.where == "m: ClusterStaticEntry crm"
    assert (one.spiffe_id.path, one.parent_id.path) == ("/agent/concierge/crm", "/spire/agent/x509pop/7f3a")
    assert (one.x509_ttl, one.jwt_ttl) == (timedelta(minutes=90), timedelta(seconds=90))
    assert one.dns_names == ("b", "a")
    assert one.extras == frozenset({Extra.HINT, Extra.STORE_SVID})


def test_lists_are_read_and_other_kinds_left_alone() -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "data": {}}
    namesake = static() | {"apiVersion": "example.org/v1"}
    found = {"apiVersion": "v1", "kind": "List", "items": [static(), other, namesake, cluster()]}
    entries, left_out, faults = read_manifests([found, other], "m", "")
    assert [one.where for one in entries] == ["m: ClusterStaticEntry crm", "m: ClusterSPIFFEID crm"]
    assert (left_out, faults) == ([], [])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (static(spiffeID=""), "spec.spiffeID: "),
        (static(spiffeID="spiffe://${TRUST}/a"), "put the values in place of the variables first"),
        (static(selectors=[]), "spec.selectors: expected at least one selector, found none"),
        (static(selectors=["unix", "unix:uid:1"]), "spec.selectors[0]: expected type:value, found 'unix'"),
        (static(x509SVIDTTL="1 h"), "spec.x509SVIDTTL: expected a duration such as 90s, 30m or 1h30m, found '1 h'"),
        (static(x509SVIDTTL=3600), "spec.x509SVIDTTL: expected a text, found 3600"),
        (static(jwtSVIDTTL="9999999999h" * 9), "spec.jwtSVIDTTL: expected a shorter duration"),
        (static(ttl="1h"), "spec.ttl: unknown key"),
        (manifest("ClusterStaticEntry", None), "spec: expected a table, found None"),
        (cluster(ttl="-1h"), "spec.ttl: expected a duration"),
        ({"apiVersion": "v1", "kind": "List"}, "items: expected a list, found None"),
        ({"apiVersion": "v1", "kind": "List", "items": [5]}, "items[0]: expected a manifest with apiVersion and kind"),
        ({"apiVersion": "v1", "kind": "List", "items": [0] * 100_001}, "items: expected at most 100000 manifests"),
        (7, "expected a manifest with apiVersion and kind, found 7"),
    ],
)
def test_a_manifest_of_another_form_is_a_fault(document: object, words: str) -> None:
    entries, _, (fault, *more) = read_manifests([document], "m", "")
    assert (entries, more) == ([], [])
    assert words in str(fault)


def test_each_document_is_named_where_there_are_several() -> None:
    _, _, faults = read_manifests([static(), static(selectors=[])], "m", "")
    assert [str(one) for one in faults] == ["m: document 2.spec.selectors: expected at least one selector, found none"]


def test_equal_labels_are_selectors_on_every_agent() -> None:
    (one,), left_out, faults = read_manifests(
        [
            cluster(
                namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "travel", "tier": "2"}},
                workloadSelectorTemplates=["k8s:sa:crm", "k8s:ns:{{ .PodMeta.Namespace }}"],
                dnsNameTemplates=["{{ .PodMeta.Labels.app }}.example.org"],
                ttl="1h",
            )
        ],
        "m",
        "",
    )
    assert (left_out, faults) == ([], [])
    assert sorted(map(str, one.selectors)) == [
        "k8s:ns-label:tier:2",
        "k8s:ns:travel",
        "k8s:pod-label:app:crm",
        "k8s:sa:crm",
    ]
    assert (one.parent_id.path, one.dns_names, one.x509_ttl) == (
        "/spire/agent",
        ("crm.example.org",),
        timedelta(hours=1),
    )


def test_one_of_several_labels_is_several_entries() -> None:
    names = only_expression("kubernetes.io/metadata.name", "In", "travel", "billing")
    template = '{{- .TrustDomain -}}/agent/{{.PodMeta.Namespace}}/{{ index .PodMeta.Labels "app" }}'
    entries, left_out, faults = read_manifests(
        [cluster(spiffeIDTemplate=f"spiffe://{template}", namespaceSelector=names)], "m", "example.org"
    )
    assert (left_out, faults) == ([], [])
    assert [(str(one.spiffe_id), len(one.selectors)) for one in entries] == [
        ("spiffe://example.org/agent/travel/crm", 2),
        ("spiffe://example.org/agent/billing/crm", 2),
    ]


def test_a_label_that_must_have_two_values_selects_nothing() -> None:
    both = {"matchLabels": {"app": "crm"}} | only_expression("app", "In", "crm", "web")
    (one,), _, _ = read_manifests([cluster(podSelector=both)], "m", "")
    assert list(map(str, one.selectors)) == ["k8s:pod-label:app:crm"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"spiffeIDTemplate": "spiffe://a/{{ .PodMeta.Namespace }}"}, "depends on each pod: {{ .PodMeta.Namespace }}"),
        ({"spiffeIDTemplate": "spiffe://a/{{ .PodMeta.Labels.tier }}"}, "name the values of that label in podSelector"),
        ({"spiffeIDTemplate": "spiffe://a/{{ .NodeMeta.Name }}"}, "without it for each value"),
        ({"spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/a"}, "say it: --trust-domain"),
        ({"spiffeIDTemplate": "spiffe://a/{{ if {x} }}b"}, "its template cannot be read"),
        ({"spiffeIDTemplate": "web"}, "spiffe://"),
        ({"workloadSelectorTemplates": ["k8s"]}, "expected type:value, found 'k8s'"),
        ({"podSelector": {}}, "it is for every pod of the cluster"),
        ({"podSelector": only_expression("app", "NotIn", "x")}, "rules have equal labels only, found 'NotIn'"),
        ({"podSelector": only_expression("app", "In")}, "expected key, operator and values"),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": [1]}]}},
            "expected different texts",
        ),
        ({"podSelector": {"matchExpressions": {}, "matchLabels": {"a": 1}}}, "expected labels with texts"),
        ({"podSelector": {"matchExpressions": "x"}}, "matchExpressions: expected a list, found 'x'"),
        ({"podSelector": {"labels": {}}}, "podSelector: unknown key 'labels'"),
        ({"podSelector": only_expression("app", "In", *map(str, range(65)))}, "are more than 64 sets of selectors"),
        ({"fallback": True}, "it is a fallback"),
        ({"autoPopulateDNSNames": True}, "it takes DNS names from services"),
    ],
)
def test_what_rules_cannot_say_is_left_out_with_the_reason(more: dict[str, object], words: str) -> None:
    entries, (one,), faults = read_manifests([cluster(**more)], "m", "")
    assert (entries, faults) == ([], [])
    assert words in f"{one.reason}; {one.mend}"
    assert one.where == "m: ClusterSPIFFEID crm"


def test_a_manifest_says_its_kind() -> None:
    assert is_manifest(static())
    others: list[object] = [{}, [], "kind", {"kind": "x"}, None]
    for other in others:
        assert not is_manifest(other)
