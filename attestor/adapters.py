"""Make the adapters that an attestor's configuration names, with the settings of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from attestor.config import AttestorConfig
from attestor.decisions.node import check_trust_domain
from attestor.nodeattestor.port import NODE_ATTESTORS, NodeAttestor
from attestor.workloadattestor.port import WORKLOAD_ATTESTORS, WorkloadAttestor
from cognomen.daemon.plugins import check_read, names_of
from cognomen.protocol.invite import Invite
from svid.clock import Clock

__all__ = ["Adapters", "make_adapters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """The adapters that a configuration chooses.

    Args:
        node_attestor: proves this node when it joins; None: there is no invite to join with.
    """

    node_attestor: NodeAttestor | None
    workload_attestors: Sequence[WorkloadAttestor]


def make_adapters(config: AttestorConfig, clock: Clock, invite: Invite | None) -> Adapters:
    """Make what the configuration names. Nothing is opened or written yet: `check` makes them, and so does an attestor before its state.

    Raises:
        Refused: as cognomen.daemon.plugins does; INVALID for settings that no chosen plugin reads, and for an invite to another trust
            domain.
    """
    if invite is not None:
        check_trust_domain(config.trust_domain, invite.trust_domain, where="invite")
    names = names_of(WORKLOAD_ATTESTORS.key, config.workload_attestors)
    NODE_ATTESTORS.check_known([config.node_attestor])
    WORKLOAD_ATTESTORS.check_known(names)
    check_read(config.plugins, {NODE_ATTESTORS.key: [config.node_attestor], WORKLOAD_ATTESTORS.key: names})
    make_node_attestor = NODE_ATTESTORS.find(config.node_attestor, config.plugins)
    return Adapters(
        node_attestor=None if invite is None else make_node_attestor(invite),
        workload_attestors=[WORKLOAD_ATTESTORS.find(name, config.plugins)(clock) for name in names],
    )
