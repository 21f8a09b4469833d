"""Make the adapters that an issuer's configuration names, with the settings of each.

stores chooses the datastore. Only node attestors, upstream authority and key manager are plugins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cognomen.daemon.config import expand_home
from cognomen.daemon.plugincalls import PluginCalls
from cognomen.daemon.plugins import PluginContext, check_read, names_of
from issuer.checkpointsink.file import FileSink
from issuer.checkpointsink.port import CheckpointSink
from issuer.checkpointsink.syslog import SyslogSink
from issuer.config import IssuerConfig
from issuer.keymanager.guarded import GuardedKeyManager
from issuer.keymanager.port import KEY_MANAGERS, KeyManager
from issuer.nodeattestor.port import NODE_ATTESTORS, NodeAttestor
from issuer.upstream.port import UPSTREAM_AUTHORITIES, UpstreamAuthority
from svid.clock import Clock

__all__ = ["Adapters", "make_adapters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """The adapters that a configuration chooses.

    Args:
        node_attestors: by the names that they have in the configuration.
        sinks: where signed checkpoints of the audit chain go.
    """

    node_attestors: Mapping[str, NodeAttestor]
    upstream: UpstreamAuthority
    keys: KeyManager
    sinks: Sequence[CheckpointSink]


def make_adapters(config: IssuerConfig, clock: Clock) -> Adapters:
    """Make what the configuration names. Nothing is opened or written yet: `check` makes them, and so does an issuer before its state.

    Raises:
        Refused: as cognomen.daemon.plugins does; INVALID for settings that no chosen plugin reads.
    """
    attestors = names_of(NODE_ATTESTORS.key, config.node_attestors)
    NODE_ATTESTORS.check_known(attestors)
    UPSTREAM_AUTHORITIES.check_known([config.upstream_authority])
    KEY_MANAGERS.check_known([config.key_manager])
    check_read(
        config.plugins,
        {
            NODE_ATTESTORS.key: attestors,
            UPSTREAM_AUTHORITIES.key: [config.upstream_authority],
            KEY_MANAGERS.key: [config.key_manager],
        },
    )
    place = PluginContext(trust_domain=config.trust_domain, state_dir=config.state_dir, clock=clock)
    return Adapters(
        node_attestors={name: NODE_ATTESTORS.find(name, config.plugins)(place) for name in attestors},
        upstream=UPSTREAM_AUTHORITIES.find(config.upstream_authority, config.plugins)(place),
        keys=GuardedKeyManager(
            inner=KEY_MANAGERS.find(config.key_manager, config.plugins)(place),
            name=config.key_manager,
            calls=PluginCalls(clock),
        ),
        sinks=_sinks(config),
    )


def _sinks(config: IssuerConfig) -> Sequence[CheckpointSink]:
    sinks: list[CheckpointSink] = []
    if config.audit_checkpoint_file:
        sinks.append(FileSink(expand_home(config.audit_checkpoint_file)))
    if config.audit_checkpoint_syslog:
        sinks.append(SyslogSink())
    return sinks
