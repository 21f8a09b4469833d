"""The `join_token` node attestor: the evidence is the token of an invite."""

from cognomen.daemon.plugins import NoSettings, Plugin
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite

__all__ = ["PLUGIN", "JoinToken"]


class JoinToken:
    """Shows the invite's token."""

    def __init__(self, invite: Invite) -> None:
        self._token = invite.token

    @property
    def name(self) -> str:
        """`join_token`."""
        return "join_token"

    async def evidence(self) -> bytes:
        """The token."""
        return self._token.encode()

    async def answer(self, challenge: bytes) -> bytes:
        """Refuse: a join token has no challenge."""
        raise Refused(Kind.INVALID, f"challenge: expected none for a join token, found {len(challenge)} bytes")


PLUGIN: Plugin[NoSettings, Invite, JoinToken] = Plugin(NoSettings, lambda _settings, invite: JoinToken(invite))
