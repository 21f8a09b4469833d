"""`make demo`: three components of one agent, who may call whom, who is refused, and what a rotation interrupts: nothing.

Exit codes: 0 everything happened and no call failed · 1 something did not · 130 interrupted.
"""

import argparse
import math
import os
import signal
import sys
import tempfile
from pathlib import Path

from cognomen.demo.scene import AGENT, DAEMONS, ROLES, Event, Scene, SceneError
from cognomen.demo.tally import LATE, Tally
from cognomen.demo.transcript import paragraph, sentence, told
from svid.clock import Clock, SystemClock

_SECONDS = 80
_COUNT_SECONDS = 10
_LOG_LINES = 20


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Show:
    """One run of the scene, told as it happens."""

    def __init__(self, scene: Scene, clock: Clock) -> None:
        self._scene = scene
        self._clock = clock
        self._start = clock.monotonic()
        self._count_at = math.inf
        self.tally = Tally()

    def begin(self) -> None:
        """Start everything in order, until everybody is ready."""
        ports: dict[str, int] = {}
        waiting, busy = list(ROLES), set(ROLES)
        self._scene.start_daemons()
        self._tell(DAEMONS, f"issuer and attestor are up; the agent {AGENT!r} has {len(ROLES)} entries")
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
        self._count_at = self._clock.monotonic() + _COUNT_SECONDS
        while not self.tally.everything_happened:
            self._hear()
            if self.tally.created_at is None and self.tally.rotations.total() >= len(ROLES):
                self._tell("operator", f"creates an entry for {LATE}")
                self.tally.created_at = self._scene.add_identity("connector", LATE)

    def stay(self) -> None:
        """Go on telling until Ctrl-C."""
        while True:
            self._hear(patiently=True)

    def end(self) -> None:
        """End everybody, and take note of the last counts."""
        for event in self._scene.end_components():
            self._note(event)

    def sum_up(self) -> None:
        """Say what was achieved."""
        _say()
        for line in (*self.tally.verdicts(), "", *self.tally.table()):
            _say(line)
        _say()
        if self.tally.latency is not None:
            _say(f"Entry created → the connector's open stream held it: {_milliseconds(self.tally)}.")
        _say(f"All of it in {self._clock.monotonic() - self._start:.1f} s.")
        _say(
            paragraph(
                f"One uid ({os.getuid()}) runs all three here, so only convention separates them; production gives"
                " each a uid of its own."
            )
        )

    def _hear(self, *, patiently: bool = False) -> Event:
        event = self._scene.next_event(patiently=patiently)
        self._note(event)
        if event.at >= self._count_at:
            self._count_at = event.at + _COUNT_SECONDS
            self._tell(
                "all", f"{self.tally.count('made')} calls made, {self.tally.count('failed')} failed", at=event.at
            )
        return event

    def _note(self, event: Event) -> None:
        self.tally.note(event)
        if text := sentence(event):
            self._tell(event.who, text, at=event.at)
        if event.name == "gained" and self.tally.latency is not None:
            self._tell(event.who, f"held it {_milliseconds(self.tally)} after its entry was made", at=event.at)

    def _tell(self, who: str, text: str, *, at: float | None = None) -> None:
        _say(told((self._clock.monotonic() if at is None else at) - self._start, who, text))


def _milliseconds(tally: Tally) -> str:
    return "" if tally.latency is None else f"{tally.latency.total_seconds() * 1000:.0f} ms"


def _play(show: _Show, *, once: bool) -> bool:
    """Play the scene to its end; True where that was Ctrl-C."""
    try:
        show.begin()
        show.go_on()
        if not once:
            _say(paragraph("All of it has happened. Still up; Ctrl-C ends it."))
            show.stay()
    except KeyboardInterrupt:
        _say()
        show.end()
        return True
    show.end()
    return False


def main() -> int:
    """Play the scene; without --once, keep it up until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="Three components of one agent, each with an identity of its own that is renewed every 10 s.",
    )
    parser.add_argument("--once", action="store_true", help="end when everything has happened (make demo ARGS=--once)")
    once = parser.parse_args().once
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # whoever ends us ends everybody
    clock = SystemClock()
    with (
        tempfile.TemporaryDirectory(prefix="cognomen-demo-") as directory,
        Scene(Path(directory), clock, seconds=_SECONDS) as scene,
    ):
        show = _Show(scene, clock)
        try:
            is_interrupted = _play(show, once=once)
        except SceneError as e:
            show.sum_up()
            _say(f"\nfailed: {e}\n" + "".join(scene.log_path.read_text().splitlines(keepends=True)[-_LOG_LINES:]))
            return 1
        show.sum_up()
    if is_interrupted:
        return 130
    return 0 if show.tally.succeeded else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
