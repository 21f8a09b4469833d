"""What makes the rules of a whole rulebook invalid: what no operator can mean. Each rule by itself is valid already (`reading`).

What is usually a mistake, and can be meant, is found by `proving`.
"""

from collections.abc import Iterator

from cognomen.protocol.audiences import check_audiences
from cognomen.protocol.entry import MAX_CALLERS, EntryError
from cognomen.protocol.errors import Refused
from cognomen.rulebook.compiling import callers_in, entries_of
from cognomen.rulebook.faults import shown, suggestion
from cognomen.rulebook.places import Path
from cognomen.rulebook.rules import Component, Rulebook, Where
from cognomen.rulebook.tables import ComponentKind
from svid.errors import SVIDError
from svid.spiffeid import TrustDomain

__all__ = ["Found", "check"]

_SOME_DOMAIN = TrustDomain("example.org")

Found = tuple[Where, Path, str, str]
"""Where something stands, the path of a key below it, what is wrong, and what mends it."""


def check(rulebook: Rulebook) -> Iterator[Found]:
    """Yield every fault."""
    yield from _providers(rulebook)
    for component in rulebook.components():
        yield from _calls(rulebook, component)
        yield from _audiences(rulebook, component)
        yield from _entry(rulebook, component)
    yield from _callers(rulebook)
    for case in rulebook.cases:
        for name in sorted(case.expect):
            if rulebook.component(name) is None:
                yield case.where, ("expect",), f"no component is called {name}", _near(rulebook, str(name))


def _near(rulebook: Rulebook, name: str) -> str:
    return suggestion(name, [str(one.name) for one in rulebook.components()])


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


def _calls(rulebook: Rulebook, component: Component) -> Iterator[Found]:
    for number, callee in enumerate(component.may_call):
        at: Path = ("may_call", number)
        if callee == component.name:
            yield component.where, at, f"{callee} is the component itself", "leave it out"
        elif rulebook.component(callee) is None:
            if callee.agent == component.name.agent:
                known = [name for name in rulebook.agents[callee.agent].components if name != component.name.component]
                mend = suggestion(callee.component, known)
            else:
                mend = _near(rulebook, str(callee))
            yield component.where, at, f"no component is called {callee}", mend


def _callers(rulebook: Rulebook) -> Iterator[Found]:
    for name, callers in callers_in(rulebook).items():
        component = rulebook.component(name)
        if component is not None and len(callers) > MAX_CALLERS:
            problem = f"expected at most {MAX_CALLERS} components that may call {name}, found {len(callers)}"
            yield component.where, (), problem, "split it, or take it out of the may_call of some of them"


def _audiences(rulebook: Rulebook, component: Component) -> Iterator[Found]:
    if component.model and component.kind is not ComponentKind.REASONING:
        yield (
            component.where,
            ("model",),
            f"expected none in a component of the kind {component.kind}",
            "only a reasoning component has a model; name the provider's audience in audiences",
        )
    if component.model and component.model not in rulebook.providers:
        mend = suggestion(component.model, rulebook.providers) or f"add a table [provider.{component.model}]"
        yield component.where, ("model",), f"no provider is called {shown(component.model)}", mend
    for number, audience in enumerate(component.audiences):
        at: Path = ("audiences", number)
        try:
            check_audiences([audience], field="audience")
        except Refused as refused:
            yield component.where, at, refused.detail.removeprefix("audience: "), ""
        if _is_component(audience):
            yield component.where, at, f"{shown(audience)} is a component", "name it in may_call"


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
