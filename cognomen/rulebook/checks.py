"""What makes the rules of a whole rulebook invalid: what no operator can mean. Each rule by itself is valid already (`reading`).

What is usually a mistake, and can be meant, is found by `proving`.
"""

from collections.abc import Iterator
from functools import partial

from cognomen.protocol.audiences import check_audiences
from cognomen.protocol.entry import MAX_CALLERS, EntryError
from cognomen.protocol.errors import Refused
from cognomen.rulebook.compiling import callers_in, entries_of
from cognomen.rulebook.faults import Mend, shown
from cognomen.rulebook.places import Path
from cognomen.rulebook.rules import Component, ComponentName, Rulebook, Where
from cognomen.rulebook.suggesting import Known
from cognomen.rulebook.tables import ComponentKind, OnOverdue
from svid.errors import SVIDError
from svid.spiffeid import TrustDomain

__all__ = ["MOST_SETS", "Found", "check"]

_SOME_DOMAIN = TrustDomain("example.org")

MOST_SETS = 100_000
"""How many sets of selectors all components may have together: as many as the issuer takes entries."""

Found = tuple[Where, Path, str, Mend]
"""Where something stands, the path of a key below it, what is wrong, and what mends it."""


def check(rulebook: Rulebook) -> Iterator[Found]:
    """Yield every fault."""
    yield from _providers(rulebook)
    yield from _reviews(rulebook)
    known = _Names(rulebook)
    providers = Known(rulebook.providers)
    sets = 0
    for component in rulebook.components():
        if sets <= MOST_SETS < (sets := sets + len(component.proofs)):
            yield (
                component.where,
                (),
                f"expected at most {MOST_SETS} sets of selectors in all components, found more",
                "",
            )
        yield from _calls(rulebook, component, known)
        yield from _audiences(rulebook, component, providers)
        yield from _entry(rulebook, component)
    yield from _callers(rulebook)
    for case in rulebook.cases:
        for name in sorted(case.expect):
            if rulebook.component(name) is None:
                yield (
                    case.where,
                    ("expect",),
                    f"no component is called {name}",
                    partial(known.all.suggestion, str(name)),
                )


class _Names:
    """The names of all components, and of those of each agent."""

    def __init__(self, rulebook: Rulebook) -> None:
        self.all = Known([str(one.name) for one in rulebook.components()])
        self._of_agents = {name: Known(one.components.keys()) for name, one in rulebook.agents.items()}

    def callee(self, component: Component, callee: ComponentName) -> str:
        """The component that may have been meant; of the same agent, if it is to be one of these."""
        if callee.agent != component.name.agent:
            return self.all.suggestion(str(callee))
        return self._of_agents[callee.agent].suggestion(callee.component, but=component.name.component)


def _providers(rulebook: Rulebook) -> Iterator[Found]:
    by_audience: dict[str, str] = {}
    for provider in rulebook.providers.values():
        try:
            check_audiences([provider.audience], field="audience")
        except Refused as refused:
            yield provider.where, ("audience",), refused.detail.removeprefix("audience: "), ""
        if _is_component(provider.audience):
            yield provider.where, ("audience",), f"{shown(provider.audience)} is a component", "name it in may_call"
        other = by_audience.setdefault(provider.audience, provider.name)
        if other != provider.name:
            yield provider.where, ("audience",), f"provider {other} has the same audience", "keep one of them"


def _reviews(rulebook: Rulebook) -> Iterator[Found]:
    for agent in rulebook.agents.values():
        if agent.on_overdue is OnOverdue.SUSPEND and agent.review_by is None:
            yield (
                agent.where,
                ("on_overdue",),
                "expected review_by beside it, found none",
                "say when: review_by = 2027-03-31",
            )


def _calls(rulebook: Rulebook, component: Component, known: "_Names") -> Iterator[Found]:
    for number, callee in enumerate(component.may_call):
        at: Path = ("may_call", number)
        if callee == component.name:
            yield component.where, at, f"{callee} is the component itself", "leave it out"
        elif rulebook.component(callee) is None:
            yield (
                component.where,
                at,
                f"no component is called {callee}",
                partial(known.callee, component, callee),
            )


def _callers(rulebook: Rulebook) -> Iterator[Found]:
    for name, callers in callers_in(rulebook).items():
        component = rulebook.component(name)
        if component is not None and len(callers) > MAX_CALLERS:
            problem = f"expected at most {MAX_CALLERS} components that may call {name}, found {len(callers)}"
            yield component.where, (), problem, "split it, or take it out of the may_call of some of them"


def _audiences(rulebook: Rulebook, component: Component, providers: Known) -> Iterator[Found]:
    if component.model and component.kind is not ComponentKind.REASONING:
        yield (
            component.where,
            ("model",),
            f"expected none in a component of the kind {component.kind}",
            "only a reasoning component has a model; name the provider's audience in audiences",
        )
    if component.model and component.model not in rulebook.providers:
        yield (
            component.where,
            ("model",),
            f"no provider is called {shown(component.model)}",
            partial(_provider, component, providers),
        )
    for number, audience in enumerate(component.audiences):
        at: Path = ("audiences", number)
        try:
            check_audiences([audience], field="audience")
        except Refused as refused:
            yield component.where, at, refused.detail.removeprefix("audience: "), ""
        if _is_component(audience):
            yield component.where, at, f"{shown(audience)} is a component", "name it in may_call"


def _provider(component: Component, providers: Known) -> str:
    return providers.suggestion(component.model) or f"add a table [provider.{component.model}]"


def _is_component(audience: str) -> bool:
    return audience.startswith("spiffe://") and "/agent/" in audience


def _entry(rulebook: Rulebook, component: Component) -> Iterator[Found]:
    """What no registration entry can have."""
    try:
        for _ in entries_of(rulebook, component, _SOME_DOMAIN):
            pass
    except EntryError as e:
        key, _, problem = str(e).partition(": ")
        yield component.where, (key,), problem, ""
    except SVIDError as e:
        yield component.where, ("nodes",), str(e), ""
