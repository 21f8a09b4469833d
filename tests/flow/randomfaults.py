"""Faults that a drill draws by lot: clocks that are set, a link that is thin, far, held or lost, a full disk, daemons that are stopped."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random  # noqa: TID251 - seeded, and the seed is printed: a drill that found something is run again

from bench.rig.network import Network
from tests.flow.shiftedclock import ShiftedClock
from tests.flow.twodaemons import World

__all__ = ["Fault", "Faults", "small_disk"]

MIB = 2**20
SHIFTS = [timedelta(seconds=one) for one in (75, -75, 600, -600, 8 * 86_400, -8 * 86_400, 20 * 86_400)]


@contextmanager
def small_disk(directory: Path, mib: int) -> Iterator[Path | None]:
    """A file system of a few megabytes in memory for as long as the block needs it; None where this user may not mount."""
    mounted = directory / "disk"
    mounted.mkdir()
    if os.geteuid() != 0:
        yield None
        return
    made = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0755", "tmpfs", mounted], check=False)
    if made.returncode:
        yield None
        return
    try:
        yield mounted
    finally:
        subprocess.run(["/bin/umount", "-l", mounted], check=True)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: what it is, how it begins, and how it ends.

    Args:
        stops: nobody is served while it lasts.
        sets_a_clock: what is valid is not the same before, while it lasts, and after.
    """

    what: str
    begin: Callable[[], None]
    end: Callable[[], None]
    stops: bool = False
    sets_a_clock: bool = False


@dataclass(frozen=True, kw_only=True)
class Faults:
    """All that can go wrong with two daemons, and the lot by which it does.

    Args:
        clocks: of the issuer and of the attestor.
        disk: that of both; None: it cannot be filled.
    """

    lot: Random
    world: World
    clocks: tuple[ShiftedClock, ShiftedClock]
    road: Network
    disk: Path | None

    def draw(self) -> list[Fault]:
        """One or two faults that can last at the same time."""
        kinds = [self._clock, self._road, self._stop, *([] if self.disk is None else [self._full])]
        return [make() for make in self.lot.sample(kinds, self.lot.choice([1, 1, 2]))]

    def seconds(self) -> float:
        """How long faults last."""
        return self.lot.choice([0.3, 2.0, 6.0, 12.0, 20.0])

    def _clock(self) -> Fault:
        which, shift = self.lot.choice([(0,), (1,), (0, 1)]), self.lot.choice(SHIFTS)

        def set_to(so_much: timedelta) -> None:
            for one in which:
                self.clocks[one].set(so_much)

        names = " and ".join(("issuer", "attestor")[one] for one in which)
        return Fault(
            what=f"the clock of {names} is {shift.total_seconds():+.0f} s off",
            begin=lambda: set_to(shift),
            end=lambda: set_to(timedelta()),
            sets_a_clock=True,
        )

    def _road(self) -> Fault:
        what = self.lot.choice(["thin", "far", "held", "lost"])

        def begin() -> None:
            match what:
                case "thin":
                    self.road.bytes_a_second = 12_000
                case "far":
                    self.road.round_trip = 0.5
                case "held":
                    self.road.is_held = True
                case _:
                    self.road.lose_what_is_open()

        def end() -> None:
            self.road.bytes_a_second, self.road.round_trip, self.road.is_held = None, 0.0, False

        return Fault(what=f"the road is {what}", begin=begin, end=end)

    def _stop(self) -> Fault:
        which = self.lot.choice(["issuer", "attestor"])
        pid = self.world.issuer.pid if which == "issuer" else self.world.attestor.pid
        return Fault(
            what=f"the {which} is stopped",
            begin=lambda: os.kill(pid, signal.SIGSTOP),
            end=lambda: os.kill(pid, signal.SIGCONT),
            stops=which == "attestor",
        )

    def _full(self) -> Fault:
        assert self.disk is not None
        filler = self.disk / "somebody-elses"

        def begin() -> None:
            with filler.open("ab", buffering=0) as file:
                for size in (MIB, 4096, 1):
                    try:
                        while True:
                            file.write(bytes(size))
                    except OSError:
                        continue

        return Fault(what="the disk is full", begin=begin, end=lambda: filler.unlink(missing_ok=True))
