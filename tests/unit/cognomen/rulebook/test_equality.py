"""cognomen/rulebook/equality, and what it is for: an imported rulebook means what SPIRE's entries meant."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.names import is_issuer
from cognomen.protocol.selector import Selector
from cognomen.rulebook.compiling import compiled
from cognomen.rulebook.equality import differences
from cognomen.rulebook.given import GivenEntry
from cognomen.rulebook.importmap import parse_nodes
from cognomen.rulebook.reading import read
from cognomen.rulebook.rules import ComponentName
from cognomen.rulebook.spire import read_spire
from cognomen.rulebook.writing import written
from tests.unit.cognomen.rulebook.spireentries import DOMAIN, entry, imported, printed

# Which processes get what: a model of SPIRE's own rule, which knows nothing of rulebooks.

_UIDS = [f"unix:uid:{uid}" for uid in (1001, 1002)]
_PATHS = [f"unix:path:/bin/{name}" for name in "ab"]
_SETS = st.tuples(st.sampled_from(["", *_UIDS]), st.sampled_from(["", *_PATHS])).filter(any)
_AGENTS = [f"/spire/agent/join_token/{name}" for name in "xy"]
_ALIASES = {"/team": "join_token:label:team:a", "/zone": "join_token:label:zone:b"}
_PATHS_OF_IDS = st.builds("/agent/{}/{}".format, st.sampled_from(["a", "b.c"]), st.sampled_from(["x", "y", "0"]))
_TTLS = st.sampled_from([0, 60, 90, 3600, 86_400])
_NAMES = st.lists(st.sampled_from(["a.example.org", "b"]), unique=True, max_size=2)


@st.composite
def spire_entries(draw: st.DrawFn) -> list[dict[str, object]]:
    """Entries of components, some several times; some below an alias, some below another component."""
    paths = draw(st.lists(_PATHS_OF_IDS, unique=True, min_size=1, max_size=5))
    parents = [*_AGENTS, *_ALIASES, *paths]
    found = [entry(path, "/spire/server", one) for path, one in _ALIASES.items()]
    for path in paths:
        parent = draw(st.sampled_from(parents))
        more = {"x509_svid_ttl": draw(_TTLS), "jwt_svid_ttl": str(draw(_TTLS)), "dns_names": draw(_NAMES)}
        sets = draw(st.lists(_SETS, unique=True, min_size=1, max_size=3))
        found += [entry(path, parent, *filter(None, one), **more) for one in sets]
    return found


@dataclass
class Spire:
    """SPIRE's rule: an agent has the entries below it and below its aliases, and those below these."""

    entries: Sequence[GivenEntry]
    below: dict[str, list[GivenEntry]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for one in self.entries:
            self.below[one.parent_id.path].append(one)

    def ids(self, agent: str, node: frozenset[Selector], process: frozenset[Selector]) -> set[tuple[object, ...]]:
        todo = [agent, *(one.spiffe_id.path for one in self.below["/spire/server"] if one.selectors <= node)]
        seen: set[str] = set()
        got: set[tuple[object, ...]] = set()
        while todo:
            if (parent := todo.pop()) in seen:
                continue
            seen.add(parent)
            for one in self.below[parent]:
                todo.append(one.spiffe_id.path)
                if one.selectors <= process:
                    got.add((one.spiffe_id.path, one.x509_ttl, one.jwt_ttl, one.dns_names))
        return got


def ours(text: str, node: frozenset[Selector], process: frozenset[Selector]) -> set[tuple[object, ...]]:
    """What the issuer and an attestor make of a rulebook."""
    rulebook, faults = read({"a.toml": text.encode()})
    assert [str(one) for one in faults] == []
    entries = list(compiled(rulebook, DOMAIN))
    groups = {one.spiffe_id for one in entries if is_issuer(one.parent_id) and one.selectors <= node}
    return {
        (one.spiffe_id.path, one.x509_svid_ttl, one.jwt_svid_ttl, one.dns_names)
        for one in entries
        if one.parent_id in groups and one.selectors <= process
    }


def selectors(*texts: str) -> frozenset[Selector]:
    return frozenset(map(Selector.parse, filter(None, texts)))


@given(
    spire_entries(),
    st.sampled_from(_AGENTS),
    st.sampled_from(["", *_ALIASES.values()]),
    st.tuples(st.sampled_from(_UIDS), st.sampled_from(_PATHS)),
)
def test_a_process_gets_from_the_rulebook_what_it_got_from_spire(
    entries: list[dict[str, object]], agent: str, label: str, process: tuple[str, str]
) -> None:
    found, _ = read_spire(printed(*entries), "entries.json")
    result = imported(*entries)
    left = {one.what for one in result.left_out}
    # SPIRE's agent is a node here that was invited with its label.
    own = f"join_token:label:spire-agent:{agent.removeprefix('/spire/agent/')}"
    expected = Spire(found).ids(agent, selectors(label), selectors(*process))
    got = ours(written(result.rulebook), selectors(label, own), selectors(*process))
    assert got == {one for one in expected if one[0] not in left}


@given(spire_entries(), st.data())
def test_a_rulebook_that_says_anything_else_is_found(entries: list[dict[str, object]], data: st.DataObject) -> None:
    result = imported(*entries)
    if not result.placed:
        return
    number = data.draw(st.integers(0, len(result.placed) - 1))
    one = result.placed[number]
    changed = data.draw(
        st.sampled_from(
            [
                replace(one, entry=replace(one.entry, x509_ttl=timedelta(seconds=7))),
                replace(one, entry=replace(one.entry, selectors=selectors("unix:uid:7"))),
                replace(one, entry=replace(one.entry, dns_names=("other",))),
                replace(one, entry=replace(one.entry, observe=True)),
                replace(one, entry=replace(one.entry, callers=("spiffe://example.org/agent/other/one",))),
                replace(one, nodes=parse_nodes(["any"])),
                replace(one, name=ComponentName("other", "one")),
            ]
        )
    )
    placed = [*result.placed[:number], changed, *result.placed[number + 1 :]]
    assert list(differences(written(result.rulebook), placed, DOMAIN))
