"""`make demo`: three components of one agent, who may call whom, and who is refused.

Exit codes: 0 everything happened · 1 something did not · 130 interrupted.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from cognomen.demo.scene import AGENT, DAEMONS, ROLES, Scene, SceneError
from cognomen.demo.transcript import EXPECTED, achievement, sentence
from svid.clock import SystemClock

_SECONDS = 30
_LOG_LINES = 20


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _play(scene: Scene, done: set[str]) -> None:
    """Start everything in order, tell what happens, and note what was achieved, until all of it was and everybody is ready."""
    ports: dict[str, int] = {}
    waiting, busy = list(ROLES), set(ROLES)
    scene.start_daemons()
    _say(f"{DAEMONS:<13} issuer and attestor are up; the agent {AGENT!r} has {len(ROLES)} entries")
    scene.start_component(waiting.pop(0), ports)
    while busy or done != set(EXPECTED):
        event = scene.next_event()
        if line := sentence(event):
            _say(line)
        if (achieved := achievement(event)) is not None:
            done.add(achieved)
        if event.name == "ready":
            busy.discard(event.who)
        if event.name == "listening":
            ports[event.who] = int(event.facts["port"])
            scene.start_component(waiting.pop(0), ports)


def _sum_up(done: set[str]) -> None:
    _say()
    for key, text in EXPECTED.items():
        _say(f"  {'ok     ' if key in done else 'MISSING'}  {text}")
    _say(
        f"\nOne uid ({os.getuid()}) runs all three here, so only convention separates them; production gives each a uid of its own."
    )


def main() -> int:
    """Play the scene; without --once, keep it up until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="make demo", description="Three components of one agent, each with an identity of its own."
    )
    parser.add_argument("--once", action="store_true", help="end when everything has happened (make demo ARGS=--once)")
    once = parser.parse_args().once
    clock = SystemClock()
    start = clock.monotonic()
    done: set[str] = set()
    with (
        tempfile.TemporaryDirectory(prefix="cognomen-demo-") as directory,
        Scene(Path(directory), clock, seconds=_SECONDS) as scene,
    ):
        try:
            _play(scene, done)
            _sum_up(done)
            _say(f"All of it in {clock.monotonic() - start:.1f} s.")
            if not once:
                _say("Still up; Ctrl-C ends it.")
                scene.stay()
        except SceneError as e:
            _sum_up(done)
            _say(f"\nfailed: {e}\n" + "".join(scene.log_path.read_text().splitlines(keepends=True)[-_LOG_LINES:]))
            return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
