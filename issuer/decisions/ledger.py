"""The rows of the ledger: what was signed, for whom, and how far a signature got. audit decides what the audit record says about it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = ["Credential", "CredentialKind", "CredentialState"]


class CredentialKind(StrEnum):
    """What was signed."""

    X509 = "x509"
    JWT = "jwt"
    NODE = "node"
    ISSUER = "issuer"
    AUTHORITY = "authority"


class CredentialState(StrEnum):
    """How far a signature got. `intended` counts as issued: after a crash, recording too much is the safe side."""

    INTENDED = "intended"
    ISSUED = "issued"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A row of the ledger: one credential that we signed, or are about to sign.

    Args:
        number: its place in the ledger; 0 until stored.
        serial: the serial number in lower-case hexadecimal, or the jti.
        key_hash: SHA-256 of the certified SubjectPublicKeyInfo, lower-case hexadecimal; empty for a JWT.
        authority_id: the key id of the authority that signs.
        revocation: the number of the revocation that ended it early; 0: none.
        rulebook: the revision that was in force, if the entry belongs to the rulebook; 0: it does not.
    """

    kind: CredentialKind
    serial: str
    spiffe_id: SpiffeID
    authority_id: KeyID
    issued_at: datetime
    not_after: datetime
    number: int = 0
    entry_id: EntryID | None = None
    entry_revision: int = 0
    node_id: NodeID | None = None
    key_hash: str = ""
    audiences: tuple[str, ...] = ()
    state: CredentialState = CredentialState.INTENDED
    revocation: int = 0
    rulebook: int = 0
