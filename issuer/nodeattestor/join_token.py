"""The `join_token` node attestor: the evidence is a token from an invite.

This only checks the form. From the token's row, issuer/decisions/attestation decides whether it is known and fresh, and which key may
use it.
"""

import hashlib
import re

from cognomen.daemon.plugins import NoSettings, Plugin, PluginContext
from cognomen.protocol.errors import Kind, Refused
from issuer.decisions.attestation import ByToken
from issuer.nodeattestor.port import Challenge

__all__ = ["NAME", "PLUGIN", "JoinToken"]

NAME = "join_token"

_TOKEN = re.compile(rb"[A-Za-z0-9_-]{43}")  # 256 bits in base64url, as issuer/flows/create_invite makes them


class JoinToken:
    """Accepts a join token as evidence; it never sends a challenge."""

    @property
    def name(self) -> str:
        """`join_token`."""
        return NAME

    async def attest(self, evidence: bytes, challenge: Challenge) -> ByToken:
        """Name the token by its hash: its row has the node's id and labels."""
        del challenge
        if not _TOKEN.fullmatch(evidence):
            raise Refused(
                Kind.INVALID, f"evidence: expected a join token of 43 base64url characters, found {len(evidence)} bytes"
            )
        return ByToken(token_hash=hashlib.sha256(evidence).hexdigest())


PLUGIN: Plugin[NoSettings, PluginContext, JoinToken] = Plugin(NoSettings, lambda _settings, _surroundings: JoinToken())
