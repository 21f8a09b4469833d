"""`make demo`: three components of one agent: who may call whom, that rotations and taints interrupt nothing, what ends a component.

Exit codes: 0 everything happened and no call failed · 1 something did not happen, or the output was lost · 130 interrupted.
"""

import argparse
import contextlib
import importlib.util
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from cognomen.demo.operator import OperatorError
from cognomen.demo.picture import drawn
from cognomen.demo.scan import Scan
from cognomen.demo.scene import AGENT, DAEMONS, OWNERS, REPLACED, ROLES, Event, Scene, SceneError
from cognomen.demo.shapes import in_environment
from cognomen.demo.tally import LATE, Tally
from cognomen.demo.transcript import paragraph, sentence, told
from cognomen.demo.view import View, render
from cognomen.process.privatefile import own_what_we_make
from cognomen.process.standardstreams import LostOutputError, own_streams
from svid.clock import Clock, SystemClock

_SECONDS = 120  # a run takes a third of it, on a machine that has nothing else to do
_COUNT_SECONDS = 10
_LOG_LINES = 20
_COLUMNS, _ROWS = 100, 24
_PATIENCE_SECONDS = 2.0  # with a terminal that was stopped: the scene continues, and can be ended
_SDK = "anthropic"
_INTERRUPTED, _BROKEN_PIPE = 130, 141


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Show:
    """One run of the scene, shown as it happens.

    Args:
        is_live: show a live view instead of one line for each event.
    """

    def __init__(self, scene: Scene, clock: Clock, *, is_live: bool) -> None:
        self._scene = scene
        self.clock = clock
        self._is_live = is_live
        self.view = View()
        self._start = clock.monotonic()
        self._count_at = math.inf
        self._ports: dict[str, int] = {}
        self._is_replaced = False
        self._reminted: set[str] = set()
        self.tally = Tally()
        self._scan = Scan()

    def begin(self) -> None:
        """Start everything in order, and wait until all are ready."""
        waiting, busy = list(ROLES), set(ROLES)
        self._scene.start_daemons()
        self._tell(DAEMONS, "issuer and attestor are up; nobody has an identity")
        self._apply()
        self._scene.start_component(waiting.pop(0), self._ports)
        while busy:
            event = self._hear()
            if event.name == "ready":
                busy.discard(event.who)
            if event.name == "listening":
                self._ports[event.who] = int(event.facts["port"])
                self._scene.start_component(waiting.pop(0), self._ports)
        self._scan_processes()

    def go_on(self) -> None:
        """Let the components work; give one another identity, revoke it, replace it, have all that was signed replaced, suspend it."""
        self._count_at = self.clock.monotonic() + _COUNT_SECONDS
        while not self.tally.everything_happened:
            self._hear()
            if self.tally.created_at is None and self.tally.rotations.total() >= len(ROLES):
                self._tell("operator", f"sets state = active for the agent of {LATE}")
                self._scene.operator.words["draft"] = "active"
                self._apply()
                self.tally.created_at = self._scene.operator.made_at(LATE)
            if self.tally.revoked_at is None and self.tally.is_undisturbed:
                self._tell("operator", f"revokes the {REPLACED}: cognomen revoke selector unix:path:…")
                self.tally.revoked_at = self._scene.operator.revoke(self._scene.path_selector(REPLACED))
            if not self._is_replaced and self.tally.is_revoked:
                self._tell("operator", f"stops that {REPLACED}, and lets the rules name another program in its place")
                self._scene.operator.words["draft"] = "suspended"
                self._scene.rename_program()
                self._apply()
                self._scene.replace(self._ports)
                self._is_replaced = True
            if self.tally.tainted_at is None and self.tally.is_back:
                self._tell("operator", "distrusts the key that signs: cognomen authority taint x509-…")
                self.tally.tainted_at = self._scene.operator.taint()
            if self.tally.suspended_at is None and self.tally.is_reminted:
                self._tell("operator", f"cognomen agent suspend {AGENT}/{REPLACED}")
                self.tally.suspended_at = self._scene.operator.suspend(f"{AGENT}/{REPLACED}")
            if self.tally.resumed_at is None and self.tally.is_suspended:
                self._tell("operator", f"cognomen agent resume {AGENT}/{REPLACED}")
                self.tally.resumed_at = self._scene.operator.resume(f"{AGENT}/{REPLACED}")

    def _apply(self) -> None:
        """Plan the rules and apply them, as an operator."""
        count = self._scene.operator.plan()
        self._tell("operator", f"cognomen plan rules: {count} {'entry' if count == 1 else 'entries'} would change")
        self._tell("operator", f"cognomen apply plan.json: revision {self._scene.operator.apply()} is in force now")

    def scan(self) -> None:
        """Look for static secrets in all files of the scene, and in the processes that are there now."""
        at = self.clock.monotonic()
        self._scan_processes()
        self._scan.read_files(self._scene.directory, OWNERS)
        self.tally.scan = self._scan
        self._tell(
            "all", f"{len(self._scan.findings)} static secrets found in files, environments and arguments", at=at
        )

    def _scan_processes(self) -> None:
        for process in self._scene.processes():
            self._scan.read_process(process)

    def announce(self, text: str) -> None:
        """Show a text that does not come from a process."""
        if self._is_live:
            self._tell("all", text)
        else:
            _say(paragraph(text))

    def stay(self) -> None:
        """Keep showing events until Ctrl-C."""
        while True:
            self._hear(patiently=True)

    def end(self) -> None:
        """Stop all components, and note their last counts."""
        for event in self._scene.end_components():
            self._note(event)

    def sum_up(self) -> None:
        """Print the results."""
        _say()
        for line in (*self.tally.verdicts(), "", *self.tally.table()):
            _say(line)
        _say()
        if self.tally.latency is not None:
            _say(f"Rules applied → the connector's open stream held its new SVID: {_milliseconds(self.tally.latency)}.")
        _say(f"Total time: {self.clock.monotonic() - self._start:.1f} s.")
        _say(
            paragraph(
                f"One uid ({os.getuid()}) runs all three here, so only convention separates them; in production, each has"
                " its own uid."
            )
        )
        _say()
        for line in (*_kept_out(), *self.tally.scanned()):
            _say(paragraph(line))

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
        self.view.note(event, self.clock.now())
        if text := sentence(event):
            self._tell(event.who, text, at=event.at)
        if event.name == "gained" and self.tally.latency is not None:
            self._tell(
                event.who, f"held it {_milliseconds(self.tally.latency)} after the rules were applied", at=event.at
            )
        if event.who in self.tally.reminted and event.who not in self._reminted:
            self._reminted.add(event.who)
            took = _milliseconds(self.tally.reminted[event.who])
            self._tell(event.who, f"did so {took} after the command, by another authority", at=event.at)
        if (latest := self.tally.latest(event)) is not None:
            self._tell(event.who, f"did so {_milliseconds(latest)} after the command", at=event.at)

    def _tell(self, who: str, text: str, *, at: float | None = None) -> None:
        seconds = (self.clock.monotonic() if at is None else at) - self._start
        self.view.tell(seconds, who, text)
        if not self._is_live:
            _say(told(seconds, who, text))

    def picture(self, console: Console) -> RenderableType:
        """The current view, for that terminal."""
        width, height = console.size
        is_ascii = not console.encoding.lower().startswith("utf")
        return render(self.view, width=width, height=height, now=self.clock.now(), is_ascii=is_ascii)


def _kept_out() -> Iterator[str]:
    """Say which secrets our own environment holds, by name."""
    if names := sorted({name for name, _ in in_environment(os.environ)}):
        yield f"Your own environment holds {', '.join(names)}: no process of the scene was given it."


def _milliseconds(latency: timedelta) -> str:
    return f"{latency.total_seconds() * 1000:.0f} ms"


def _play(show: _Show, *, once: bool) -> bool:
    """Play the scene to its end; returns whether Ctrl-C ended it."""
    try:
        show.begin()
        show.go_on()
        show.scan()
        if not once:
            show.announce("Everything has happened. Still running; press Ctrl-C to stop.")
            show.stay()
    except KeyboardInterrupt:
        _say()
        show.end()
        return True
    show.end()
    return False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="Three components of one agent, each with its own identity, which is renewed every 10 s.",
        epilog="In a terminal it shows a live view, otherwise a transcript.",
    )
    parser.add_argument("--once", action="store_true", help="stop when everything has happened (make demo ARGS=--once)")
    parser.add_argument(
        "--record", type=Path, metavar="FILE.svg", help="like --once, and save a picture of the final view"
    )
    return parser.parse_args()


def _end_on_signals() -> None:
    """Let signals to us stop all processes, even SIGINT, which a shell's background ignores; but SIGHUP under nohup stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _record(show: _Show, path: Path) -> None:
    """Draw the view as on a terminal of 100 × 24."""
    picture = render(show.view, width=_COLUMNS, height=_ROWS, now=show.clock.now())
    path.write_text(drawn(picture, columns=_COLUMNS, rows=_ROWS, title="make demo"))


def main() -> int:
    """Play the scene; without --once, keep it running until Ctrl-C."""
    options = _options()
    once = options.once or options.record is not None
    if importlib.util.find_spec(_SDK) is None:
        sys.stderr.write(
            f"error: the demo calls a model through the package {_SDK}, which is not installed: pip install {_SDK}\n"
        )
        return 1
    _end_on_signals()
    clock, console = SystemClock(), Console()
    is_live = console.is_terminal and not console.is_dumb_terminal
    with (
        tempfile.TemporaryDirectory(prefix="cognomen-demo-") as directory,
        Scene(Path(directory), clock, seconds=_SECONDS) as scene,
    ):
        show = _Show(scene, clock, is_live=is_live)
        frames = Live(get_renderable=lambda: show.picture(console), console=console, refresh_per_second=4, screen=True)
        try:
            with frames if is_live else contextlib.nullcontext():
                is_interrupted = _play(show, once=once)
        except (SceneError, OperatorError) as e:
            show.sum_up()
            _say(f"\nfailed: {e}\n" + "".join(scene.log_path.read_text().splitlines(keepends=True)[-_LOG_LINES:]))
            return 1
        show.sum_up()
        if options.record is not None:
            _record(show, options.record)
    if is_interrupted:
        return _INTERRUPTED
    return 0 if show.tally.succeeded else 1


if __name__ == "__main__":
    own_streams(patience_seconds=_PATIENCE_SECONDS)
    own_what_we_make()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except LostOutputError as e:
        sys.stderr.write("" if e.is_hangup else f"error: {e}\n")
        sys.exit(_BROKEN_PIPE if e.is_hangup else 1)
