"""The `join_token` node attestor: the evidence is a token from an invite.

Whether a token is known, fresh, and whose key may use it is decided on its row, in issuer/decisions/admission; here is only its form.
"""

import hashlib
import re

from cognomen.daemon.errors import Kind, Refused
from issuer.nodeattestor.port import AttestedNode, Challenge

__all__ = ["JoinToken"]

_TOKEN = re.compile(rb"[A-Za-z0-9_-]{43}")  # 256 bits in base64url, as issuer/flows/create_invite makes them


class JoinToken:
    """Takes a join token as evidence; it never sends a challenge."""

    @property
    def name(self) -> str:
        """`join_token`."""
        return "join_token"

    async def attest(self, evidence: bytes, challenge: Challenge) -> AttestedNode:
        """Name the token by its hash: the node's id and labels stand in its row."""
        del challenge
        if not _TOKEN.fullmatch(evidence):
            raise Refused(
                Kind.INVALID, f"evidence: expected a join token of 43 base64url characters, found {len(evidence)} bytes"
            )
        return AttestedNode(token_hash=hashlib.sha256(evidence).hexdigest())
