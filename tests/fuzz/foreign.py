"""Fuzz targets for what an import reads: the files of SPIRE's users. What is read is written as a rulebook that means the same."""

import atheris

with atheris.instrument_imports(include=["cognomen.rulebook", "cognomen.cli.yamltext"]):
    from cognomen.cli.yamltext import yaml_documents
    from cognomen.rulebook.equality import differences
    from cognomen.rulebook.given import Choices, Extra, GivenEntry
    from cognomen.rulebook.importing import import_entries
    from cognomen.rulebook.importmap import parse_nodes, read_map
    from cognomen.rulebook.manifests import read_manifests
    from cognomen.rulebook.spire import read_spire
    from cognomen.rulebook.writing import written
    from svid.encoding import json_value
    from svid.spiffeid import TrustDomain

from collections.abc import Sequence

from tests.fuzz.engine import Target, main

_DOMAIN = TrustDomain("example.org")
_ALL = Choices(
    owner="a",
    purpose="b",
    renames=True,
    agent="c",
    keeps_types=True,
    drops=frozenset(Extra),
    other_nodes=parse_nodes(["any"]),
)


def _import(entries: Sequence[GivenEntry]) -> None:
    result = import_entries(entries, _DOMAIN, _ALL)
    if found := list(differences(written(result.rulebook), result.placed, _DOMAIN)):
        raise AssertionError(found)


def spire(data: bytes) -> None:
    """Read SPIRE's entries: what has no fault is imported."""
    entries, _ = read_spire(json_value(data), "file")
    _import(entries)


def manifests(data: bytes) -> None:
    """Read YAML, and manifests in it."""
    documents = list(yaml_documents(data.decode()))
    entries, _, _ = read_manifests(documents, "file", "example.org")
    _import(entries)


def table(data: bytes) -> None:
    """Read the operator's map."""
    read_map(data.decode(), "file")


_ENTRIES = b"""{"entries": [
{"spiffe_id": {"trust_domain": "example.org", "path": "/agent/a/b"},
 "parent_id": {"trust_domain": "example.org", "path": "/spire/agent/x/y"},
 "selectors": [{"type": "unix", "value": "uid:1"}], "x509_svid_ttl": "60", "expires_at": "0", "dns_names": ["a.b"]},
{"spiffe_id": {"trust_domain": "example.org", "path": "/g"}, "parent_id": {"trust_domain": "example.org", "path": "/spire/server"},
 "selectors": [{"type": "k8s_psat", "value": "cluster:a"}], "hint": "x"},
{"spiffe_id": {"trust_domain": "example.org", "path": "/web"}, "parent_id": {"trust_domain": "example.org", "path": "/g"},
 "selectors": [{"type": "k8s", "value": "ns:a"}]}
], "next_page_token": ""}"""
_MANIFESTS = b"""\
apiVersion: spire.spiffe.io/v1alpha1
kind: ClusterStaticEntry
metadata: {name: a}
spec:
  spiffeID: spiffe://example.org/agent/a/b
  parentID: spiffe://example.org/spire/agent/x
  selectors: ['unix:uid:1']
  x509SVIDTTL: 1h0m0s
---
apiVersion: spire.spiffe.io/v1alpha1
kind: ClusterSPIFFEID
spec:
  spiffeIDTemplate: spiffe://{{ .TrustDomain }}/agent/{{ .PodMeta.Namespace }}/b
  podSelector: {matchLabels: {app: b}}
  namespaceSelector:
    matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [a, c]}]
"""
_TABLES = (b'[names]\n"/a" = "a/b"\n[nodes]\n"/b" = ["join_token:label:a:b"]\n[agent.a]\nowner = "x"\n',)

TARGETS = {
    "spire": Target(run=spire, seeds=(_ENTRIES,), answers=(ValueError,)),
    "manifests": Target(run=manifests, seeds=(_MANIFESTS,), answers=(ValueError,)),
    "table": Target(run=table, seeds=_TABLES, answers=(ValueError,)),
}

if __name__ == "__main__":
    main(TARGETS)
