"""`make demo`: three components of one agent, who may call whom, who is refused, and what a rotation interrupts: nothing.

Exit codes: 0 everything happened · 1 something did not · 130 interrupted.
"""

import argparse
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from cognomen.demo.scene import AGENT, DAEMONS, ROLES, Event, Scene, SceneError
from cognomen.demo.transcript import EXPECTED, LATE, ROTATIONS, Tally, achievement, latency, sentence
from svid.clock import Clock, SystemClock

_SECONDS = 80
_COUNT_SECONDS = 10
_LOG_LINES = 20


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Show:
    """One run of the scene, told line by line."""

    def __init__(self, scene: Scene, clock: Clock) -> None:
        self._scene = scene
        self._clock = clock
        self._start = clock.monotonic()
        self._created_at: datetime | None = None
        self.done: set[str] = set()
        self.tally = Tally()

    def begin(self) -> None:
        """Start everything in order, until everybody is ready."""
        ports: dict[str, int] = {}
        waiting, busy = list(ROLES), set(ROLES)
        self._scene.start_daemons()
        self._tell(f"{DAEMONS:<13} issuer and attestor are up; the agent {AGENT!r} has {len(ROLES)} entries")
        self._scene.start_component(waiting.pop(0), ports)
        while busy:
            event = self._hear()
            if event.name == "ready":
                busy.discard(event.who)
            if event.name == "listening":
                ports[event.who] = int(event.facts["port"])
                self._scene.start_component(waiting.pop(0), ports)

    def go_on(self) -> None:
        """Let everybody work through the rotations, and give one of them another identity meanwhile."""
        while set(EXPECTED) - self.done - {"no call failed"}:
            self._hear()
            if self._created_at is None and self.tally.rotations.total() >= len(ROLES):
                self._created_at = self._scene.add_identity("connector", LATE)
                self._tell(f"{'operator':<13} created an entry for {LATE}")
        if self.tally.made and not self.tally.failed:
            self.done.add("no call failed")

    def stay(self) -> None:
        """Go on telling until Ctrl-C."""
        told_at = self._clock.monotonic()
        while True:
            self._hear(patiently=True)
            if self._clock.monotonic() >= told_at + _COUNT_SECONDS:
                told_at = self._clock.monotonic()
                self._tell(f"{'orchestrator':<13} made {self.tally.made} calls, {self.tally.failed} failed")

    def sum_up(self) -> None:
        """Say what was achieved."""
        _say()
        for key, text in EXPECTED.items():
            _say(f"  {'ok     ' if key in self.done else 'MISSING'}  {text}")
        rotations = ", ".join(f"{role} {self.tally.rotations[role]}" for role in ROLES)
        _say(f"\nRotations: {rotations}. Calls made: {self.tally.made}, failed: {self.tally.failed}.")
        _say(f"All of it in {self._clock.monotonic() - self._start:.1f} s.")
        _say(
            f"One uid ({os.getuid()}) runs all three here, so only convention separates them; production gives each"
            " a uid of its own."
        )

    def _hear(self, *, patiently: bool = False) -> Event:
        event = self._scene.next_event(patiently=patiently)
        self.tally.note(event)
        if line := sentence(event):
            self._tell(line)
        if (achieved := achievement(event)) is not None:
            self.done.add(achieved)
        if event.name == "gained" and self._created_at is not None:
            milliseconds = latency(event, self._created_at).total_seconds() * 1000
            self._tell(f"{event.who:<13} held it {milliseconds:.0f} ms after its entry was made")
        if self.tally.rotations[event.who] >= ROTATIONS:
            self.done.add(f"{event.who} rotated")
        return event

    def _tell(self, line: str) -> None:
        _say(f"{self._clock.monotonic() - self._start:5.1f} s  {line}")


def main() -> int:
    """Play the scene; without --once, keep it up until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="Three components of one agent, each with an identity of its own that is renewed every 10 s.",
    )
    parser.add_argument("--once", action="store_true", help="end when everything has happened (make demo ARGS=--once)")
    once = parser.parse_args().once
    clock = SystemClock()
    with (
        tempfile.TemporaryDirectory(prefix="cognomen-demo-") as directory,
        Scene(Path(directory), clock, seconds=_SECONDS) as scene,
    ):
        show = _Show(scene, clock)
        try:
            show.begin()
            show.go_on()
            show.sum_up()
            if not once:
                _say("Still up; Ctrl-C ends it.")
                show.stay()
        except SceneError as e:
            show.sum_up()
            _say(f"\nfailed: {e}\n" + "".join(scene.log_path.read_text().splitlines(keepends=True)[-_LOG_LINES:]))
            return 1
    return 0 if show.done == set(EXPECTED) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
