"""Compile a rulebook to registration entries: those of its components, and those of the node groups that they are below.

A component has one entry for each set of selectors that proves it. Equal rules give equal entries, in the same order.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.names import issuer_id
from cognomen.protocol.selectorcheck import EVERY_NODE
from cognomen.rulebook.rules import Component, ComponentName, Nodes, Rulebook
from cognomen.rulebook.tables import Mode
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["GROUPS", "audiences_of", "callers_in", "compiled", "entries_of", "group_path", "parent_of"]

GROUPS = "/rulebook/nodes"
"""The paths of node groups are below this."""


@lru_cache(maxsize=1024)
def group_path(nodes: Nodes) -> str:
    """The path of the group of these nodes, which depends on the selectors alone.

    It has a whole digest: whoever writes rules could find two kinds of nodes that share a part of one, and nodes of the one kind would
    get what belongs to the other.
    """
    text = "\n".join(map(str, sorted(nodes.selectors)))
    return f"{GROUPS}/{hashlib.sha256(text.encode()).hexdigest()}"


def parent_of(nodes: Nodes, trust_domain: TrustDomain) -> SpiffeID:
    """The parent of the entries on these nodes: the node itself, or a group."""
    return SpiffeID(trust_domain=trust_domain, path=nodes.path or group_path(nodes))


def compiled(rulebook: Rulebook, trust_domain: TrustDomain) -> Iterator[RegistrationEntry]:
    """The entries of all active agents; groups first."""
    groups = {one.nodes for one in rulebook.active() if not one.nodes.path}
    for nodes in sorted(groups, key=group_path):
        yield RegistrationEntry(
            spiffe_id=parent_of(nodes, trust_domain),
            parent_id=issuer_id(trust_domain),
            selectors=nodes.selectors or frozenset({EVERY_NODE}),
        )
    callers = callers_in(rulebook)
    for component in rulebook.active():
        yield from entries_of(rulebook, component, trust_domain, callers=callers.get(component.name, ()))


def callers_in(rulebook: Rulebook) -> Mapping[ComponentName, Collection[ComponentName]]:
    """Which components of active agents may call each component that any of them may call."""
    found: defaultdict[ComponentName, set[ComponentName]] = defaultdict(set)
    for component in rulebook.active():
        for callee in component.may_call:
            found[callee].add(component.name)
    return found


def audiences_of(rulebook: Rulebook, component: Component, trust_domain: TrustDomain) -> tuple[str, ...]:
    """All that a component gets JWT-SVIDs for: the components that it may call, its model, and its external audiences."""
    peers = {str(_id_of(name, trust_domain)) for name in component.may_call}
    return tuple(sorted(peers | rulebook.external_audiences(component)))


def entries_of(
    rulebook: Rulebook, component: Component, trust_domain: TrustDomain, *, callers: Collection[ComponentName] = ()
) -> Iterator[RegistrationEntry]:
    """The entries of one component.

    Args:
        callers: the components that may call it.
    """
    agent = rulebook.agents[component.name.agent]
    for selectors in component.proofs:
        yield RegistrationEntry(
            spiffe_id=SpiffeID(trust_domain=trust_domain, path=component.path),
            parent_id=parent_of(component.nodes, trust_domain),
            selectors=selectors,
            x509_svid_ttl=component.x509_ttl,
            jwt_svid_ttl=component.jwt_ttl,
            dns_names=component.dns_names,
            owner=agent.owner,
            labels=agent.labels,
            audiences=audiences_of(rulebook, component, trust_domain),
            callers=tuple(sorted((_id_of(name, trust_domain) for name in callers), key=str)),
            observe=component.mode is Mode.OBSERVE,
        )


def _id_of(name: ComponentName, trust_domain: TrustDomain) -> SpiffeID:
    return SpiffeID(trust_domain=trust_domain, path=f"/agent/{name}")
