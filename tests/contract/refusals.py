"""What a test of refusals looks at: what `on_refused` was told, the line, the count; an impostor, and an app."""

import asyncio
import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import pytest

from svid.tls.reports import Reason, Refusal, refusal_counts
from tests.contract.tls_clients import World
from tests.doubles.identity import Identity
from tests.doubles.trustdomain import TrustDomainDouble

__all__ = ["AnyCoroutine", "Told", "check", "counted", "hello_app", "impostor"]

AnyCoroutine: TypeAlias = "asyncio.Future[None]"


@dataclass
class Told:
    """What `on_refused` was told; it raises each time, which changes nothing."""

    refusals: queue.SimpleQueue[Refusal] = field(default_factory=queue.SimpleQueue)

    def __call__(self, refusal: Refusal) -> bool:
        self.refusals.put(refusal)
        raise ZeroDivisionError

    def one(self) -> Refusal:
        refusal = self.refusals.get(timeout=10)
        assert self.refusals.empty()
        return refusal


def check(refusal: Refusal, lines: pytest.LogCaptureFixture, counted: int) -> None:
    """One line and one count of it."""
    said = [record for record in lines.records if record.levelno == logging.WARNING]
    assert [record.name for record in said] == ["svid.tls.reports"]
    line = said[0].getMessage()
    assert line.startswith(f"{refusal.point}: refused {refusal.peer or 'a peer'}")
    assert f"{refusal.reason}: {refusal.detail}" in line
    assert refusal.address in line
    assert refusal_counts()[refusal.point, refusal.reason] == counted + 1


def counted(point: str, reason: Reason) -> int:
    return refusal_counts().get((point, reason), 0)


def impostor(world: World, path: str) -> Identity:
    """Somebody of the same trust domain by name, by an authority of its own."""
    stranger = TrustDomainDouble()
    stranger.rotate()
    stranger.drop()
    return Identity(stranger.svid(path), stranger.bundle, world.domain.bundle)


async def hello_app(scope: dict[str, object], receive: object, send: Callable[[dict[str, object]], object]) -> None:
    del receive
    if scope["type"] != "http":
        return
    await cast("AnyCoroutine", send({"type": "http.response.start", "status": 200, "headers": []}))
    await cast("AnyCoroutine", send({"type": "http.response.body", "body": b"hello"}))
