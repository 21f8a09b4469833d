"""Both halves of a node attestor that knows a machine by a key of its own: the issuer asks, the machine signs the question.

It stands for attestors that prove an identity of the machine's own, as hardware or a cloud gives one.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from cognomen.daemon.plugins import Plugin, PluginContext
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from cognomen.protocol.names import NodeID
from cognomen.protocol.selector import Selector
from issuer.decisions.attestation import ByIdentity
from issuer.nodeattestor.port import Challenge

__all__ = ["ISSUER_PLUGIN", "NAME", "NODE_PLUGIN", "HardwareKeys", "Machine"]

NAME = "hardware_key"
_ALGORITHM = ec.ECDSA(SHA256())


class HardwareKeys:
    """The issuer's half: which machine has which key.

    Args:
        zones: where each machine is; a selector says it.
    """

    def __init__(
        self,
        machines: Mapping[str, ec.EllipticCurvePublicKey],
        *,
        zones: Mapping[str, str] | None = None,
        can_reattest: bool = True,
    ) -> None:
        self._machines, self._zones, self._can_reattest = machines, zones or {}, can_reattest

    @property
    def name(self) -> str:
        return NAME

    async def attest(self, evidence: bytes, challenge: Challenge) -> ByIdentity:
        machine = evidence.decode(errors="replace")
        key = self._machines.get(machine)
        if key is None:
            raise Refused(Kind.UNAUTHENTICATED, "hardware key: expected a machine that we know, found another")
        question = secrets.token_bytes(32)
        try:
            key.verify(await challenge(question), question, _ALGORITHM)
        except InvalidSignature as e:
            raise Refused(Kind.UNAUTHENTICATED, "hardware key: expected its signature, found another") from e
        zone = self._zones.get(machine, "a")
        return ByIdentity(
            node_id=NodeID(machine),
            selectors=frozenset({Selector(NAME, f"zone:{zone}")}),
            can_reattest=self._can_reattest,
        )


class Machine:
    """The node's half: one machine and its key."""

    def __init__(self, machine: str, key: ec.EllipticCurvePrivateKey) -> None:
        self._machine, self._key = machine, key

    @property
    def name(self) -> str:
        return NAME

    async def evidence(self) -> bytes:
        return self._machine.encode()

    async def answer(self, challenge: bytes) -> bytes:
        return self._key.sign(challenge, _ALGORITHM)


class HardwareKeySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the issuer is told.

    Args:
        machines: the public key of each, in PEM.
    """

    machines: dict[str, str]
    zones: dict[str, str] = {}
    can_reattest: bool = True


class MachineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node is told: which machine it is, and where its key is, in PEM."""

    machine: str
    key_file: Path


def _known(settings: HardwareKeySettings, _: PluginContext) -> HardwareKeys:
    keys = {machine: load_pem_public_key(pem.encode()) for machine, pem in settings.machines.items()}
    taken = {machine: key for machine, key in keys.items() if isinstance(key, ec.EllipticCurvePublicKey)}
    return HardwareKeys(taken, zones=settings.zones, can_reattest=settings.can_reattest)


def _machine(settings: MachineSettings, _: Invite) -> Machine:
    key = load_pem_private_key(settings.key_file.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(Kind.INVALID, f"hardware key: expected an EC key in {settings.key_file}, found another")
    return Machine(settings.machine, key)


ISSUER_PLUGIN: Plugin[HardwareKeySettings, PluginContext, HardwareKeys] = Plugin(HardwareKeySettings, _known)
NODE_PLUGIN: Plugin[MachineSettings, Invite, Machine] = Plugin(MachineSettings, _machine)
