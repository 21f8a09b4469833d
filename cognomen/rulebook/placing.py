"""The agents and components of entries that come from elsewhere, once it is decided which component each is (`importing`)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cognomen.rulebook.given import Choices, GivenEntry
from cognomen.rulebook.rules import Agent, Component, ComponentName, Nodes, Rulebook, Where
from cognomen.rulebook.tables import AgentState, Mode
from cognomen.rulebook.unanswered import TODO_OWNER, TODO_PURPOSE

__all__ = ["Placed", "calls_of", "is_component", "owners_of", "peers_of", "rulebook_of"]

_NOWHERE = Where(file="", path=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An entry, the component that it becomes, and its nodes."""

    entry: GivenEntry
    name: ComponentName
    nodes: Nodes


def peers_of(kept: Mapping[ComponentName, Sequence[Placed]]) -> Mapping[str, ComponentName]:
    """The components by the SPIFFE IDs that they had."""
    return {str(each[0].entry.spiffe_id): name for name, each in kept.items()}


def calls_of(kept: Mapping[ComponentName, Sequence[Placed]]) -> Mapping[ComponentName, Collection[ComponentName]]:
    """The components that each may call: its audiences; and, if its tokens may be for anybody, those that declare it as a caller."""
    peers = peers_of(kept)
    found: defaultdict[ComponentName, set[ComponentName]] = defaultdict(set)
    for name, each in kept.items():
        entry = each[0].entry
        found[name].update(peers[one] for one in entry.audiences or () if one in peers)
        for caller in entry.callers or ():
            if (one := peers.get(caller)) and kept[one][0].entry.audiences is None:
                found[one].add(name)
    return found


def is_component(audience: str) -> bool:
    """Whether an audience can only be named in `may_call`, as `checks` has it."""
    return audience.startswith("spiffe://") and "/agent/" in audience


def owners_of(entries: Iterable[GivenEntry]) -> Sequence[str]:
    """Who answers for these, in order; nobody may be given."""
    return sorted({one.owner for one in entries} - {""})


def rulebook_of(kept: Mapping[ComponentName, Sequence[Placed]], choices: Choices) -> Rulebook:
    """The rules of these components, in the order of their names."""
    peers, calls = peers_of(kept), calls_of(kept)
    components: defaultdict[str, dict[str, Component]] = defaultdict(dict)
    entries: defaultdict[str, list[GivenEntry]] = defaultdict(list)
    node_types, workload_types = {"join_token"}, {"unix"}
    for name in sorted(kept):
        components[name.agent][name.component] = _component(kept[name], choices, peers, calls[name])
        for one in kept[name]:
            entries[name.agent].append(one.entry)
            node_types.update(each.type for each in one.nodes.selectors)
            workload_types.update(each.type for each in one.entry.selectors)
    return Rulebook(
        agents={name: _agent(name, each, entries[name], choices) for name, each in components.items()},
        node_types=frozenset(node_types),
        workload_types=frozenset(workload_types),
    )


def _component(
    each: Sequence[Placed], choices: Choices, peers: Mapping[str, ComponentName], calls: Collection[ComponentName]
) -> Component:
    entry = each[0].entry
    audiences = entry.audiences or ()
    return Component(
        name=each[0].name,
        kind=choices.kind,
        proofs=tuple(sorted({one.entry.selectors for one in each}, key=sorted)),
        nodes=each[0].nodes,
        x509_ttl=entry.x509_ttl,
        jwt_ttl=entry.jwt_ttl,
        dns_names=entry.dns_names,
        may_call=tuple(sorted(calls)),
        audiences=tuple(one for one in audiences if one not in peers),
        mode=Mode.OBSERVE if entry.observe else Mode.ENFORCE,
        where=_NOWHERE,
    )


def _agent(name: str, components: Mapping[str, Component], entries: Sequence[GivenEntry], choices: Choices) -> Agent:
    owner, purpose = choices.people.get(name, ("", ""))
    owners = owners_of(entries)
    labels = [dict(one.labels) for one in entries]
    return Agent(
        name=name,
        owner=owner or (owners[0] if len(owners) == 1 else "") or choices.owner or TODO_OWNER,
        purpose=purpose or choices.purpose or TODO_PURPOSE,
        state=AgentState.ACTIVE,
        components=components,
        labels=labels[0] if all(one == labels[0] for one in labels) else {},
        where=_NOWHERE,
    )
