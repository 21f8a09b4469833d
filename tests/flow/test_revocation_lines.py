"""A revocation every few seconds on each integration of svid.tls: nobody else is refused, and not one byte is late."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import httpx
import pytest
import requests

from tests.doubles.trustdomain import TrustDomainDouble
from tests.flow.revocationlines import BY_TOKEN, INTEGRATIONS, Open, Peer, World
from tests.flow.soak import IS_SOAK, TIMEOUT

REVOCATIONS = 24 if IS_SOAK else 2
BETWEEN_SECONDS = 5.0 if IS_SOAK else 0.1
PAUSE_SECONDS = 0.005
ENDS = (OSError, httpx.HTTPError, requests.RequestException, grpc.RpcError)


@dataclass(kw_only=True)
class Play:
    """A bystander and a victim, each with a line that is kept and one that is opened anew for each message.

    Attributes:
        revoked_at: when the enforcement point had marked a peer; of one that is being revoked, 0.
        refused: errors of peers that nobody revoked.
    """

    world: World
    open_line: Open
    by_token: bool
    victim: Peer = field(init=False)
    revoked_at: dict[int, float] = field(default_factory=dict)
    refused: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    made: dict[tuple[int, bool], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.victim = self.world.peer(by_token=self.by_token)
        self.bystander = self.world.peer(by_token=self.by_token)

    def load(self, *, is_victim: bool, keep: bool) -> None:
        """Pass one message after the other until all is over."""
        while not self.over.is_set():
            peer = self.victim if is_victim else self.bystander
            try:
                self._pass_on(peer, keep=keep)
            except ENDS as e:
                if peer.number not in self.revoked_at:
                    self.refused.append(e)

    def _pass_on(self, peer: Peer, *, keep: bool) -> None:
        with self.open_line(peer) as pass_one:
            while not self.over.is_set():
                pass_one()
                self.made[peer.number, keep] = self.made.get((peer.number, keep), 0) + 1
                self.over.wait(PAUSE_SECONDS)
                if not keep:
                    return

    def wait_for_progress(self, peer: Peer, loads: list["Future[None]"]) -> None:
        """Return when that peer has passed two more messages on either line, or somebody was refused."""
        wanted = {(peer.number, keep): self.made.get((peer.number, keep), 0) + 2 for keep in (False, True)}
        while any(self.made.get(which, 0) < least for which, least in wanted.items()):
            if self.refused or any(one.done() for one in loads):
                return
            self.over.wait(PAUSE_SECONDS)

    def revoke_victim(self) -> Peer:
        """Revoke the victim, and give it something fresh."""
        old = self.victim
        self.revoked_at[old.number] = 0.0
        knows = self.world.tokens if self.by_token else self.world.point
        knows.revoke(self.world.domain.name, old.number)
        self.revoked_at[old.number] = time.perf_counter()
        self.victim = self.world.peer(by_token=self.by_token)
        return old

    def late(self) -> dict[int, float]:
        """By how much messages were late, of whoever sent or was sent some that came."""
        return {
            number: self.world.last[number] - at
            for number, at in self.revoked_at.items()
            if self.world.last[number] > at
        }


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("name", INTEGRATIONS)
def test_nobody_else_is_refused_and_no_byte_is_late(name: str, domain: TrustDomainDouble) -> None:
    world = World(domain=domain)
    with INTEGRATIONS[name](world) as open_line, ThreadPoolExecutor(4) as pool:
        play = Play(world=world, open_line=open_line, by_token=name in BY_TOKEN)
        loads = [
            pool.submit(play.load, is_victim=is_victim, keep=keep)
            for is_victim in (False, True)
            for keep in (False, True)
        ]
        try:
            for _ in range(REVOCATIONS):
                play.wait_for_progress(play.victim, loads)
                play.over.wait(BETWEEN_SECONDS)
                old = play.revoke_victim()
                with pytest.raises(ENDS), open_line(old) as pass_one:
                    pass_one()
                play.wait_for_progress(play.bystander, loads)
            play.wait_for_progress(play.victim, loads)
        finally:
            play.over.set()
        for one in loads:
            one.result()
    assert not play.refused
    assert play.late() == {}
    assert len(play.revoked_at) == REVOCATIONS
