"""Make the rules of a rulebook from entries from elsewhere: which component each is, and why one cannot be.

On which nodes an entry applies: `parents`. What a component then is: `placing`. How rules are written: `writing`. That they mean the
same: `equality`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cognomen.protocol.entry import EntryError, RegistrationEntry
from cognomen.protocol.names import issuer_id
from cognomen.protocol.selectorcheck import is_of_ours, never_match_together, never_matches
from cognomen.rulebook.calls import unsayable
from cognomen.rulebook.given import Choices, Extra, GivenEntry, LeftOut
from cognomen.rulebook.parents import Parents, Unplaced, is_alias
from cognomen.rulebook.placing import Placed, is_component, owners_of, peers_of, rulebook_of
from cognomen.rulebook.rules import ComponentName, Rulebook
from cognomen.rulebook.texts import NAME
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["Imported", "component_name", "import_entries"]

_MOST_SETS = 64
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of all entries.

    Args:
        placed: those that are in the rulebook.
        left_out: those that are not.
        unused: groups of nodes on which no entry is.
        mixed_labels: the agents whose entries have different labels, so that it has none.
        mixed_owners: those whose entries have different owners, and for which the operator named none.
    """

    rulebook: Rulebook
    placed: Sequence[Placed]
    left_out: Sequence[LeftOut]
    unused: Sequence[GivenEntry]
    mixed_labels: Sequence[str]
    mixed_owners: Sequence[str]


class _Left(Exception):  # noqa: N818 - it is an answer
    def __init__(self, reason: str, mend: str = "", becomes: str = "") -> None:
        super().__init__(reason)
        self.reason, self.mend, self.becomes = reason, mend, becomes


def import_entries(entries: Sequence[GivenEntry], trust_domain: TrustDomain, choices: Choices) -> Imported:
    """Make a rulebook of these entries; whatever is not in it is listed.

    Args:
        trust_domain: entries of another one are left out, and so are those whose parent is of another one.
    """
    foreign = {id(one): told for one in entries if (told := _foreign(one, trust_domain))}
    own = [one for one in entries if id(one) not in foreign]
    left = list(foreign.values())
    parents = Parents(own, choices)
    by_name: defaultdict[ComponentName, list[Placed]] = defaultdict(list)
    for entry in own:
        if is_alias(entry):
            continue
        try:
            found = _placed(entry, parents, trust_domain, choices)
        except _Left as answer:
            left.append(_left(entry, answer.reason, answer.mend, answer.becomes))
        except Unplaced as answer:
            left.append(_left(entry, answer.reason, answer.mend))
        else:
            by_name[found[0].name] += found
    kept: dict[ComponentName, list[Placed]] = {}
    for name, each in by_name.items():
        if reason := _disagreement(each):
            left += _left_out(each, *reason)
        else:
            kept[name] = each
    while lost := _lost(kept):
        for name, why in lost.items():
            left += _left_out(kept.pop(name), *why)
    rulebook, placed = rulebook_of(kept, choices), [one for each in kept.values() for one in each]
    return Imported(
        rulebook=rulebook,
        placed=placed,
        left_out=left,
        unused=parents.unused(),
        mixed_labels=sorted(
            {one.name.agent for one in placed if rulebook.agents[one.name.agent].labels != one.entry.labels}
        ),
        mixed_owners=_mixed_owners(placed, choices),
    )


def _mixed_owners(placed: Sequence[Placed], choices: Choices) -> Sequence[str]:
    entries: defaultdict[str, list[GivenEntry]] = defaultdict(list)
    for one in placed:
        entries[one.name.agent].append(one.entry)
    return sorted(
        name for name, each in entries.items() if len(owners_of(each)) > 1 and not choices.people.get(name, ("", ""))[0]
    )


def _foreign(entry: GivenEntry, trust_domain: TrustDomain) -> LeftOut | None:
    """The answer about an entry that has to do with another trust domain."""
    if entry.spiffe_id.trust_domain != trust_domain:
        return _left(entry, f"it is not of the trust domain {trust_domain}", "import it apart")
    if entry.parent_id.trust_domain != trust_domain:
        reason = f"its parent is of another trust domain than {trust_domain}: {entry.parent_id}"
        return _left(entry, reason, "change it where it comes from, and import it again")
    return None


def _left(entry: GivenEntry, reason: str, mend: str, becomes: str = "") -> LeftOut:
    what = f"{entry.spiffe_id.path} → {becomes}" if becomes else entry.spiffe_id.path
    return LeftOut(where=entry.where, what=what, reason=reason, mend=mend)


def _left_out(each: Sequence[Placed], reason: str, mend: str) -> Sequence[LeftOut]:
    entries = {id(one.entry): one.entry for one in each}
    return [_left(one, reason, mend) for one in entries.values()]


def _lost(kept: Mapping[ComponentName, Sequence[Placed]]) -> Mapping[ComponentName, tuple[str, str]]:
    """The components whose calls cannot be said of these alone: why, and what mends it."""
    audiences = {
        name: (f"its audience {one} is no component of this rulebook", "import that, too")
        for name, one in _without_peers(kept)
    }
    if audiences:  # what is left out for them can change who may call the others
        return audiences
    return {name: (why, f"if it may lose its callers: --drop {Extra.CALLERS}") for name, why in unsayable(kept).items()}


def _without_peers(kept: Mapping[ComponentName, Sequence[Placed]]) -> Iterator[tuple[ComponentName, str]]:
    """The components that may call one that is not there, and which."""
    peers = peers_of(kept)
    for name, each in kept.items():
        for audience in each[0].entry.audiences or ():
            if peers.get(audience) == name or (is_component(audience) and audience not in peers):
                yield name, audience
                break


def _placed(entry: GivenEntry, parents: Parents, trust_domain: TrustDomain, choices: Choices) -> list[Placed]:
    """The component and the nodes of one entry.

    Raises:
        _Left: it cannot be in a rulebook, or not yet.
        Unplaced: its parent cannot be.
    """
    if entry.problem:
        raise _Left(entry.problem)
    if lost := entry.extras - choices.drops:
        names = sorted(lost)
        raise _Left(
            f"a rulebook has no word for its {', '.join(names)}",
            f"if it may lose that: {' '.join(f'--drop {one}' for one in names)}",
        )
    _check_entry(entry, trust_domain)
    _check_selectors(entry, choices)
    name = _name_of(entry.spiffe_id, choices)
    if Extra.CALLERS in choices.drops:
        entry = replace(entry, callers=None)
    return [Placed(entry=entry, name=name, nodes=one) for one in parents.nodes(entry.parent_id)]


def _check_entry(entry: GivenEntry, trust_domain: TrustDomain) -> None:
    """Whether it can be an entry of ours, whatever its ID and its parent are."""
    try:
        RegistrationEntry(
            spiffe_id=entry.spiffe_id,
            parent_id=issuer_id(trust_domain),
            selectors=entry.selectors,
            x509_svid_ttl=entry.x509_ttl,
            jwt_svid_ttl=entry.jwt_ttl,
            dns_names=entry.dns_names,
            audiences=entry.audiences,
            observe=entry.observe,
        )
    except EntryError as e:
        raise _Left(str(e), "change it where it comes from, and import it again") from e


def _check_selectors(entry: GivenEntry, choices: Choices) -> None:
    for one in sorted(entry.selectors):
        if is_of_ours(one):
            if expected := never_matches(one):
                raise _Left(f"expected {expected}, found {one}, which matches nothing")
        elif not choices.keeps_types:
            raise _Left(
                f"no workload attestor of ours writes selectors of the type {one.type}",
                "--keep-selector-types, if a plugin writes them here",
            )
    if expected := never_match_together(entry.selectors):
        raise _Left(f"expected {expected}")


def _name_of(spiffe_id: SpiffeID, choices: Choices) -> ComponentName:
    """The component that has this ID, or gets it."""
    segments = spiffe_id.path[1:].split("/")
    stays = component_name(segments[1], segments[2]) if len(segments) == 3 and segments[0] == "agent" else None  # noqa: PLR2004 - agent, its name, the component's
    name = choices.names.get(spiffe_id.path) or stays or _derived(segments, choices)
    if name is None:
        raise _Left(
            "its SPIFFE ID cannot stay, because components have /agent/AGENT/COMPONENT",
            "--rename, with --agent, --agent-from-path or the path under [names] of --map",
        )
    if f"/agent/{name}" != spiffe_id.path and not choices.renames:
        raise _Left(
            "its SPIFFE ID cannot stay, because components have /agent/AGENT/COMPONENT; it would get another one",
            "--rename, and tell the new one to whoever checks the old one",
            becomes=f"/agent/{name}",
        )
    return name


def _derived(segments: Sequence[str], choices: Choices) -> ComponentName | None:
    agent = choices.agent or _segment(segments, choices.agent_from)
    return component_name(agent, _segment(segments, choices.component_from or len(segments)))


def _segment(segments: Sequence[str], number: int | None) -> str:
    return segments[number - 1].lower() if number is not None and number <= len(segments) else ""


def component_name(agent: str, component: str) -> ComponentName | None:
    """The name of a component; None: one of the two is no name."""
    is_name = NAME.fullmatch(agent) and NAME.fullmatch(component)
    return ComponentName(agent, component) if is_name else None


def _disagreement(each: Sequence[Placed]) -> tuple[str, str] | None:
    """Why these cannot be one component, and what mends it; None: they can."""
    name = each[0].name
    if len(ids := sorted({one.entry.spiffe_id.path for one in each})) > 1:
        return f"{_some(ids)} would all be /agent/{name}", "give each a name of its own under [names] of --map"
    if len(nodes := sorted({str(one.nodes) for one in each})) > 1:
        return (
            f"/agent/{name} is on different nodes, and a component has one kind of nodes: {_some(nodes)}",
            "give all of them one label, by --nodes, or each parent under [nodes] of --map",
        )
    for key in ("x509_ttl", "jwt_ttl", "dns_names", "audiences", "callers", "observe"):
        if len({getattr(one.entry, key) for one in each}) > 1:
            return (
                f"the entries of /agent/{name} differ in {key}, and a component has one",
                "make them equal where they come from, and import them again",
            )
    sets = {one.entry.selectors for one in each}
    if len(sets) > _MOST_SETS:
        return f"/agent/{name} has {len(sets)} sets of selectors, and a component at most {_MOST_SETS}", ""
    return None


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _MOST_SHOWN} more" if len(texts) > _MOST_SHOWN else ""
    return ", ".join(texts[:_MOST_SHOWN]) + more
