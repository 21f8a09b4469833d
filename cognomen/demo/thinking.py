"""The reasoning component's calls of its model, through the provider's own SDK as it is: a JWT-SVID takes the place of an API key.

The environment names the provider and the rule, as the SDK's documentation wants it; none of that is a secret. What the double of the
provider checks: cognomen/demo/model.
"""

import asyncio
import importlib
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from cognomen.demo.calls import Counts
from cognomen.demo.model import AUDIENCE
from cognomen.demo.telling import Tell
from svid import JWTSource, SVIDError

if TYPE_CHECKING:
    from anthropic import Anthropic

__all__ = ["Thinking"]

_QUESTION = "plan a trip"
_MODEL = "claude-sonnet-5"
_PAUSE_SECONDS = 0.5


class Thinking:
    """Calls the model again and again; each call is counted."""

    def __init__(self, jwt: JWTSource, counts: Counts, tell: Tell) -> None:
        self._jwt = jwt
        self._counts = counts
        self._tell = tell
        self._is_told = False

    async def go_on(self, stop: asyncio.Event) -> None:
        """Call until told to stop."""
        await _loaded(stop)
        if stop.is_set():
            return
        client = self._client()
        try:
            while not stop.is_set():
                await asyncio.to_thread(self._call, client)
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            client.close()

    def _client(self) -> "Anthropic":
        """Make the SDK's client as any user would; ANTHROPIC_BASE_URL, which it reads, is the double's."""
        from anthropic import Anthropic, WorkloadIdentityCredentials  # noqa: PLC0415 - see _loaded

        return Anthropic(
            credentials=WorkloadIdentityCredentials(
                identity_token_provider=lambda: self._jwt.fetch(AUDIENCE, fresh=True).token,
                federation_rule_id=os.environ["ANTHROPIC_FEDERATION_RULE_ID"],
                organization_id=os.environ["ANTHROPIC_ORGANIZATION_ID"],
                service_account_id=os.environ["ANTHROPIC_SERVICE_ACCOUNT_ID"],
            )
        )

    def _call(self, client: "Anthropic") -> None:
        from anthropic import AnthropicError, __version__  # noqa: PLC0415 - see _loaded

        try:
            message = client.messages.create(
                model=_MODEL, max_tokens=200, messages=[{"role": "user", "content": _QUESTION}]
            )
        except (AnthropicError, SVIDError) as e:
            self._counts.failed += 1
            self._tell("failed", peer="the model", why=str(e) or type(e).__name__)
        else:
            if not self._is_told:
                self._is_told = True
                said = " ".join(block.text for block in message.content if block.type == "text")
                self._tell("thought", sdk=f"anthropic {__version__}", what=_QUESTION, said=said)
        self._counts.made += 1


async def _loaded(stop: asyncio.Event) -> None:
    """Load the SDK in a thread, which takes seconds; once told to stop, nobody waits for that."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def load() -> None:
        importlib.import_module("anthropic")
        with suppress(RuntimeError):  # the loop may have ended
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=load, daemon=True).start()
    waiting = [asyncio.create_task(event.wait()) for event in (done, stop)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
