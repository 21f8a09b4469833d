"""On which nodes an entry from elsewhere applies: what its parent is among the nodes of a rulebook.

SPIRE's server gives an agent the entries below it, those below its aliases, and those below these, and so on. Here a parent is a node or
a group of nodes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Self

from cognomen.protocol.names import is_issuer, node_id_of
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import EVERY_NODE, never_match_together, never_matches
from cognomen.rulebook.given import EVERY_AGENT, SPIRE_AGENTS, SPIRE_SERVER, Choices, Extra, GivenEntry
from cognomen.rulebook.rules import ANY_NODE, Nodes
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

__all__ = ["LABEL", "Parents", "Unplaced", "is_alias"]

LABEL = "spire-agent"
"""The label of an invite that says which of SPIRE's agents a node was."""

_MOST_LABEL_BYTES = 256
_MOST_NODES = 4  # that are remembered of a parent; a component has one
_OWN_TYPE = "join_token"
_ID_TYPE = "spiffe_id"  # of the selector by which SPIRE makes an alias of one agent


class Unplaced(Exception):  # noqa: N818 - it is an answer
    """No `nodes` of a rulebook say where it applies.

    Args:
        mend: what the operator can decide.
    """

    def __init__(self, reason: str, mend: str = "") -> None:
        super().__init__(reason)
        self.reason, self.mend = reason, mend

    def again(self) -> Self:
        """The same answer, to be raised once more."""
        return type(self)(self.reason, self.mend)


def is_alias(entry: GivenEntry) -> bool:
    """Whether it makes a group of nodes, and no identity."""
    return is_issuer(entry.parent_id) or entry.parent_id.path == SPIRE_SERVER


class Parents:
    """Answers for the entries of one trust domain. All is found at once, from the nodes downwards, in time linear in the entries."""

    def __init__(self, entries: Iterable[GivenEntry], choices: Choices) -> None:
        self._choices = choices
        self._aliases: defaultdict[SpiffeID, list[GivenEntry]] = defaultdict(list)
        self._below: defaultdict[SpiffeID, set[SpiffeID]] = defaultdict(set)  # the workloads of SPIRE below a parent
        self._found: defaultdict[SpiffeID, set[Nodes]] = defaultdict(set)
        self._failed: dict[SpiffeID, Unplaced] = {}
        self._used: set[SpiffeID] = set()
        workloads = set()
        for one in entries:
            if is_alias(one):
                self._aliases[one.spiffe_id].append(one)
                continue
            below = self._below[one.parent_id]
            if one.is_spire:
                below.add(one.spiffe_id)
                workloads.add(one.spiffe_id)
        self._spread(workloads)

    def nodes(self, parent: SpiffeID) -> frozenset[Nodes]:
        """On which nodes what is below this parent of an entry applies: on each of these; of very many, some.

        Raises:
            Unplaced: that cannot be said.
        """
        if parent in self._failed:
            raise self._failed[parent].again()
        if not self._found[parent]:
            raise Unplaced(f"its parents are below each other, and below no node: {parent.path}")
        return frozenset(self._found[parent])

    def unused(self) -> Sequence[GivenEntry]:
        """The aliases below which nothing is."""
        return [one for spiffe_id, each in self._aliases.items() if spiffe_id not in self._used for one in each]

    def _spread(self, workloads: AbstractSet[SpiffeID]) -> None:
        """Give each parent its own nodes, and each workload those of its parents, until nothing changes."""
        todo = []
        ends = set()
        for parent in self._below:
            try:
                placed = self._place(parent)
            except Unplaced as answer:
                self._failed[parent] = answer
            else:
                if placed is None and parent in workloads:
                    continue
                if placed is None:
                    self._failed[parent] = _nowhere(parent)
                self._found[parent] |= placed or set()
            ends.add(parent)
            todo.append(parent)
        while todo:
            one = todo.pop()
            todo += [child for child in self._below.get(one, set()) - ends if self._inherit(child, one)]

    def _inherit(self, child: SpiffeID, parent: SpiffeID) -> bool:
        """Whether the child has something new of this parent; never more than a few times, because a few nodes suffice to know."""
        if child in self._failed:
            return False
        if parent in self._failed:
            self._failed[child] = self._failed[parent]
            return True
        found = self._found[child]
        new = sorted(self._found[parent] - found, key=str)[: _MOST_NODES - len(found)]
        found.update(new)
        return bool(new)

    def _place(self, parent: SpiffeID) -> frozenset[Nodes] | None:
        """The nodes that this ID itself is; None: it is neither a node nor a group."""
        if parent in self._aliases:
            self._used.add(parent)
        if (chosen := self._choices.nodes.get(parent.path)) is not None:
            return frozenset({chosen})
        if node_id_of(parent) is not None:
            return frozenset({Nodes(path=parent.path)})
        if parent.path == EVERY_AGENT:
            return frozenset({self._every_agent()})
        if parent.path.startswith(SPIRE_AGENTS):
            return frozenset({self._agent(parent)})
        if parent in self._aliases:
            return frozenset(self._group(one) for one in self._aliases[parent][:_MOST_NODES])
        return None

    def _agent(self, agent: SpiffeID) -> Nodes:
        """What one of SPIRE's agents is here: a node with its label, unless the operator decided otherwise."""
        if self._choices.other_nodes is not None:
            return self._choices.other_nodes
        value = agent.path.removeprefix(SPIRE_AGENTS)
        if len(value.encode()) > _MOST_LABEL_BYTES:
            raise Unplaced(f"the ID of its SPIRE agent is too long for a label: {agent.path}", _to_map(agent))
        return Nodes(selectors=frozenset({Selector(_OWN_TYPE, f"label:{LABEL}:{value}")}))

    def _every_agent(self) -> Nodes:
        if self._choices.other_nodes is None:
            raise Unplaced("it is for every node of its cluster", "say which nodes these are: --nodes")
        return self._choices.other_nodes

    def _group(self, alias: GivenEntry) -> Nodes:
        """The nodes of one alias."""
        if alias.problem:
            raise Unplaced(f"its parent {alias.spiffe_id.path}: {alias.problem}", _to_map(alias.spiffe_id))
        if Extra.EXPIRES_AT in alias.extras - self._choices.drops:
            raise Unplaced(f"its parent {alias.spiffe_id.path} has expires_at", "if it need not end: --drop expires_at")
        if alias.selectors == {EVERY_NODE}:
            return ANY_NODE
        (first, *more) = alias.selectors
        if first.type == _ID_TYPE and not more:
            return self._of_one_agent(alias, first)
        self._check_group(alias)
        return Nodes(selectors=alias.selectors)

    def _of_one_agent(self, alias: GivenEntry, selector: Selector) -> Nodes:
        """The alias that SPIRE makes for a join token."""
        try:
            agent = SpiffeID.parse(selector.value)
        except SVIDError as e:
            raise Unplaced(f"its parent {alias.spiffe_id.path}: {e}", _to_map(alias.spiffe_id)) from e
        if agent.trust_domain != alias.spiffe_id.trust_domain:
            where = f"its parent {alias.spiffe_id.path}"
            raise Unplaced(f"{where} is an agent of another trust domain: {agent}", _to_map(alias.spiffe_id))
        if (chosen := self._choices.nodes.get(agent.path)) is not None:
            return chosen
        if not agent.path.startswith(SPIRE_AGENTS):
            raise Unplaced(f"its parent {alias.spiffe_id.path} is no agent of SPIRE", _to_map(alias.spiffe_id))
        return self._agent(agent)

    def _check_group(self, alias: GivenEntry) -> None:
        where, mend = f"its parent {alias.spiffe_id.path}", _to_map(alias.spiffe_id)
        for one in sorted(alias.selectors):
            if one.type == _OWN_TYPE:
                if expected := never_matches(one):
                    raise Unplaced(f"{where}: expected {expected}, found {one}", mend)
            elif one.type in {_ID_TYPE, EVERY_NODE.type}:
                raise Unplaced(f"{where}: the selector {one} cannot be among nodes", mend)
            elif not self._choices.keeps_types:
                kept = f"--keep-selector-types, if a plugin writes {one.type} here; or {mend}"
                raise Unplaced(f"{where}: no node attestor of ours writes selectors of the type {one.type}", kept)
        if expected := never_match_together(alias.selectors):
            raise Unplaced(f"{where}: expected {expected}", mend)
        if len(types := sorted({one.type for one in alias.selectors})) > 1:
            raise Unplaced(f"{where}: a node has one node attestor, found selectors of {', '.join(types)}", mend)


def _nowhere(parent: SpiffeID) -> Unplaced:
    return Unplaced(f"its parent is neither a node nor a group of nodes: {parent.path}", _to_map(parent))


def _to_map(parent: SpiffeID) -> str:
    return f"name it under [nodes] of --map: {parent.path}"
