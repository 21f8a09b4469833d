"""How two rulebooks differ beside what their entries show: agents and who answers for them, providers, tests, and rules that work nowhere.

What becomes of entries is decided by the issuer (issuer/works/rulebookplans).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from cognomen.protocol.durations import format_duration
from cognomen.rulebook.rules import Agent, Case, Component, Provider, Rulebook
from cognomen.rulebook.tables import AgentState, Mode, OnOverdue

__all__ = ["Difference", "Facts", "differences"]

Facts: TypeAlias = Mapping[str, str | list[str] | dict[str, str]]
"""What is said of something, by key."""

_NO_FACTS = frozenset({"name", "where", "components", "limits"})  # limits: rulebook/limits compares them
_OF_ENTRIES = frozenset({"proofs", "nodes", "x509_ttl", "jwt_ttl", "dns_names", "may_call", "audiences", "mode"})
_Part: TypeAlias = Agent | Component | Provider | Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that comes, goes or changes.

    Args:
        what: agent, component, provider, test, or selector types.
        before, after: what is said of it; None: it does not exist. Of a change, only what changes.
    """

    what: str
    name: str
    before: Facts | None
    after: Facts | None


def differences(before: Rulebook, after: Rulebook, held: Collection[str] = ()) -> Iterator[Difference]:
    """Yield every difference that the entries of the two do not show.

    Args:
        held: agents that have no entries, whatever their state is.
    """
    yield from _named("agent", before.agents, after.agents)
    for name in _sorted(before.agents, after.agents):
        old, new = before.agents.get(name), after.agents.get(name)
        is_shown = new is None or (new.state is AgentState.ACTIVE and name not in held)
        yield from _named(
            "component",
            {} if old is None else {f"{name}/{key}": one for key, one in old.components.items()},
            {} if new is None else {f"{name}/{key}": one for key, one in new.components.items()},
            without=_OF_ENTRIES if is_shown else frozenset(),
            only_changed=is_shown,
        )
    yield from _named("provider", before.providers, after.providers)
    yield from _named("test", _tests(before), _tests(after))
    types = [{"node": sorted(one.node_types), "workload": sorted(one.workload_types)} for one in (before, after)]
    if types[0] != types[1]:
        yield Difference(what="selector types", name="", before=types[0], after=types[1])


def _tests(rulebook: Rulebook) -> Mapping[str, Case]:
    found: dict[str, Case] = {}
    names = Counter[str]()
    for one in rulebook.cases:
        names[one.name] += 1
        found[one.name if names[one.name] == 1 else f"{one.name} ({names[one.name]})"] = one
    return found


def _named(
    what: str,
    before: Mapping[str, _Part],
    after: Mapping[str, _Part],
    *,
    without: Collection[str] = (),
    only_changed: bool = False,
) -> Iterator[Difference]:
    """What differs of things with names.

    Args:
        without: keys that do not count.
        only_changed: what comes and goes does not count.
    """
    for name in _sorted(before, after):
        old, new = (None if one is None else _facts(one, without) for one in (before.get(name), after.get(name)))
        if old is None or new is None:
            if not only_changed:
                yield Difference(what=what, name=name, before=old, after=new)
        elif old != new:
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            yield Difference(
                what=what,
                name=name,
                before={key: old[key] for key in keys if key in old},
                after={key: new[key] for key in keys if key in new},
            )


def _sorted(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    return sorted({*one, *other})


def _facts(part: _Part, without: Collection[str]) -> Facts:
    values = {one.name: getattr(part, one.name) for one in fields(part) if one.name not in {*_NO_FACTS, *without}}
    return {
        key: _fact(value)
        for key, value in values.items()
        if value not in (None, "", (), frozenset(), {}, OnOverdue.WARN, Mode.ENFORCE)
    }


def _fact(value: object) -> str | list[str] | dict[str, str]:
    match value:
        case Mapping():
            return {str(key): str(value[key]) for key in sorted(value)}
        case tuple():
            return list(map(_text, value))
        case frozenset():
            return sorted(map(_text, value))
    return _text(value)


def _text(value: object) -> str:
    match value:
        case StrEnum():
            return value.value
        case timedelta():
            return format_duration(value)
        case frozenset():  # a set of selectors
            return " ".join(sorted(map(str, value)))
    return str(value)
