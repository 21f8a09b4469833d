"""cognomen/rulebook/importmap: the operator's decisions, and every fault of them in one run."""

import pytest

from cognomen.rulebook.importmap import parse_nodes, read_map

_NODE = "/cognomen/node/join_token/7f3a"


def test_names_nodes_and_people_are_read() -> None:
    found, faults = read_map(
        '[names]\n"/ns/a/sa/b" = "concierge/crm"\n"/web" = "/agent/site/web"\n'
        '[nodes]\n"/spire/agent/x" = ["join_token:label:team:travel"]\n"/y" = "any"\n'
        f'"/z" = "{_NODE}"\n"/k" = "k8s_psat:cluster:a"\n'
        '[agent.concierge]\nowner = "ann"\npurpose = "books"\n',
        "map.toml",
    )
    assert list(faults) == []
    assert {path: str(name) for path, name in found.names.items()} == {
        "/ns/a/sa/b": "concierge/crm",
        "/web": "site/web",
    }
    assert {path: str(nodes) for path, nodes in found.nodes.items()} == {
        "/spire/agent/x": "join_token:label:team:travel",
        "/y": "any",
        "/z": _NODE,
        "/k": "k8s_psat:cluster:a",
    }
    assert found.people == {"concierge": ("ann", "books")}


def test_every_fault_is_told_with_its_line() -> None:
    _, (fault,) = read_map("name = 1\n", "map.toml")
    assert str(fault) == "map.toml:1: name: unknown key; did you mean names?"
    _, faults = read_map(
        '[names]\nweb = "a/b"\n"/web" = "A/b"\n"/" = "a/b"\n[nodes]\n"/x" = 5\n"/y" = "nodes"\n"/z" = []\n'
        '[agent.concierge]\nowners = "ann"\n',
        "map.toml",
    )
    assert [str(one).split(", found")[0] for one in faults] == [
        "map.toml:2: names.web: expected the path of a SPIFFE ID, such as /ns/a/sa/b",
        "map.toml:3: names./web: expected AGENT/COMPONENT",
        "map.toml:4: names./: expected the path of a SPIFFE ID, such as /ns/a/sa/b",
        "map.toml:6: nodes./x: expected node selectors, the path of a node, or any",
        "map.toml:7: nodes./y: expected type:value",
        "map.toml:8: nodes./z: expected at least one selector",
        "map.toml:10: agent.concierge.owners: unknown key; did you mean owner?",
    ]


@pytest.mark.parametrize("content", ["[", "x = " + "[" * 5000, "a = 1\na = 2"])
def test_what_is_no_toml_is_a_fault(content: str) -> None:
    _, (fault,) = read_map(content, "map.toml")
    assert str(fault).startswith("map.toml: expected TOML: ")


@pytest.mark.parametrize(
    "texts",
    [
        ["/web"],
        ["/cognomen/node/join_token"],
        ["/a//b"],
        ["any", "join_token:label:a:b"],
        ["join_token:team:travel"],
        ["unix:uid:1"],
        ["node:any"],
        ["join_token:label:a:1", "join_token:label:a:2"],
        ["join_token"],
    ],
)
def test_what_names_no_nodes_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="expected "):
        parse_nodes(texts)
