"""svid/workloadapi/keptfile: when the token in the file is replaced, and when it goes."""

import logging
import os
import queue
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from svid.errors import JWTSVIDError, SVIDError, WorkloadAPIError
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID
from svid.workloadapi.filekeeper import FileKeeper
from svid.workloadapi.keptfile import KeptFile
from tests.doubles.clock import FakeClock
from tests.doubles.filesize import full_disk

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
LIFE = 4 * MINUTE


class World:
    """A source that a test lets fail, and the file of its tokens."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.error: Exception | None = None
        self.life = LIFE
        self.age = timedelta()
        self.has_issued_at = True
        self.made = 0
        self.revoked: set[str] = set()
        self.is_unknown = False
        self.at_fetch: Callable[[], object] = lambda: None
        self.kept = KeptFile(self.fetch, self.is_of_no_use, self.clock, "cloud")

    def fetch(self) -> JWTSVID:
        self.at_fetch()
        if self.error is not None:
            raise self.error
        self.made += 1
        issued = self.clock.now() - self.age
        return JWTSVID(
            token=f"token-{self.made}",
            spiffe_id=SpiffeID.parse("spiffe://example.org/a"),
            audiences=("cloud",),
            issued_at=issued if self.has_issued_at else None,
            expires_at=issued + self.life,
            claims={},
        )

    def is_of_no_use(self, svid: JWTSVID) -> bool:
        if self.is_unknown:
            raise WorkloadAPIError("closed", code="CANCELLED")
        return svid.token in self.revoked

    def fail(self, code: str = "UNAVAILABLE") -> None:
        self.error = WorkloadAPIError("away", code=code)

    def after(self, time: timedelta) -> str:
        """What is in the file that much later."""
        self.clock.advance(time)
        self.kept.step()
        return self.text()

    def text(self) -> str:
        try:
            return self.kept.path.read_text()
        except FileNotFoundError:
            return ""


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def world(place: Path) -> Iterator[World]:
    world = World()
    assert place in world.kept.path.parents
    yield world
    world.kept.close()
    assert names(place) == []


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_token_is_there_at_once_and_is_replaced_at_half_of_its_life(world: World) -> None:
    assert world.text() == "token-1"
    assert world.after(LIFE / 2 - SECOND) == "token-1"
    assert world.after(SECOND) == "token-2"
    assert world.after(LIFE / 2 - SECOND) == "token-2"
    assert world.after(SECOND) == "token-3"


def test_it_looks_every_few_seconds_and_in_time(world: World) -> None:
    assert world.kept.step() == 5
    world.clock.advance(LIFE / 2 - 2 * SECOND)
    assert world.kept.step() == pytest.approx(2)


def test_a_token_that_was_old_when_it_came_is_replaced_in_half_of_what_is_left(world: World) -> None:
    world.age = 3 * MINUTE
    assert world.after(LIFE / 2) == "token-2"
    assert world.after(29 * SECOND) == "token-2"
    assert world.after(SECOND) == "token-3"


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_was_set_changes_nothing(world: World, ahead: timedelta) -> None:
    world.clock.jump(ahead)
    assert world.after(LIFE / 2 - SECOND) == "token-1"
    assert world.after(SECOND) == "token-2"


@pytest.mark.parametrize("age", [2 * LIFE, -LIFE])
def test_with_a_wrong_clock_half_of_the_life_counts_as_left(world: World, age: timedelta) -> None:
    world.age = age
    assert world.after(LIFE / 2) == "token-2"
    assert world.after(LIFE / 4 - SECOND) == "token-2"
    assert world.after(SECOND) == "token-3"


def test_a_token_that_says_only_its_end_is_replaced_as_well(world: World) -> None:
    world.has_issued_at = False
    assert world.after(LIFE / 2) == "token-2"
    assert world.after(LIFE / 2) == "token-3"
    world.life = -MINUTE
    assert world.after(LIFE / 2) == "token-4"
    assert world.after(timedelta()) == ""  # it was over when it came
    assert world.after(SECOND) == "token-5"


def test_while_none_comes_the_last_one_stays_until_its_end(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.fail()
    assert world.after(LIFE / 2) == "token-1"
    assert world.after(LIFE / 2 - SECOND) == "token-1"
    assert world.after(SECOND) == ""
    expired = f"token file for cloud removed: it expired at {world.clock.now().isoformat()}"
    assert told(caplog) == ["token file for cloud not renewed: away", expired]
    for _ in range(10):
        assert world.after(MINUTE) == ""
    assert len(told(caplog)) == 2
    world.error = None
    assert world.after(5 * SECOND) == "token-2"
    assert told(caplog)[2:] == ["token file for cloud is up to date again"]


def test_failed_attempts_are_repeated_within_seconds(world: World) -> None:
    world.fail()
    assert world.after(LIFE / 2) == "token-1"
    assert 0 < world.kept.step() <= 0.5
    for _ in range(10):
        world.clock.advance(5)
        assert 0 < world.kept.step() <= 5


def test_an_answer_that_is_no_token_leaves_the_last_one(world: World) -> None:
    world.error = JWTSVIDError("exp: missing")
    assert world.after(LIFE / 2) == "token-1"


def test_it_goes_when_the_attestor_says_that_the_identity_is_gone(world: World) -> None:
    world.fail("PERMISSION_DENIED")
    assert world.after(LIFE / 2) == ""
    world.error = None
    assert world.after(5 * SECOND) == "token-2"


def test_a_revoked_token_goes_at_once_and_another_is_asked_for(world: World) -> None:
    assert not world.kept.look()
    world.revoked.add("token-1")
    assert world.kept.look()
    assert world.text() == ""
    assert not world.kept.look()
    assert world.after(timedelta()) == "token-2"


def test_a_token_that_was_revoked_before_it_came_is_not_written(world: World) -> None:
    world.revoked = {"token-1", "token-2"}
    assert world.after(LIFE / 2) == ""
    assert world.after(5 * SECOND) == "token-3"


def test_it_goes_at_once_with_the_identity_and_is_back_at_the_next_change(world: World) -> None:
    world.fail("PERMISSION_DENIED")
    assert world.kept.change(is_gone=True)
    assert world.text() == ""
    assert world.after(timedelta()) == ""
    world.error = None
    assert world.kept.change(is_gone=False)
    assert world.after(timedelta()) == "token-2"
    assert not world.kept.change(is_gone=False)


def test_it_goes_when_its_authority_has_left_the_bundle(world: World) -> None:
    world.revoked.add("token-1")
    assert world.kept.change(is_gone=False)
    assert world.text() == ""


def test_a_token_of_which_nobody_can_say_whether_it_is_good_goes(world: World) -> None:
    world.is_unknown = True
    assert world.kept.look()
    assert world.text() == ""


def test_what_somebody_removed_is_written_again(world: World) -> None:
    world.kept.path.unlink()
    world.kept.path.parent.rmdir()
    assert world.after(5 * SECOND) == "token-1"


def test_a_file_that_cannot_be_removed_is_told_to_who_revoked(world: World, caplog: pytest.LogCaptureFixture) -> None:
    path = world.kept.path
    path.unlink()
    path.mkdir()
    world.revoked.add("token-1")
    with pytest.raises(OSError, match="directory"):  # the attestor gets no receipt
        world.kept.look()
    world.kept.step()
    assert "cannot be removed" in told(caplog)[0]
    path.rmdir()
    world.clock.advance(5)
    world.kept.step()
    assert world.text() not in {"", "token-1"}


def test_while_the_disk_is_full_the_last_token_stays(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with full_disk(os.getpid()):
        assert world.after(LIFE / 2) == "token-1"
    assert told(caplog) == ["token file for cloud not renewed: file too large"]
    assert world.after(5 * SECOND) == "token-3"
    assert names(world.kept.path.parent) == ["token"]


def test_on_a_full_disk_no_file_is_made(world: World, place: Path) -> None:
    before = names(place)
    with full_disk(os.getpid()), pytest.raises(SVIDError, match="token file: cannot be written: file too large"):
        KeptFile(world.fetch, world.is_of_no_use, world.clock, "cloud")
    assert names(place) == before


def test_a_token_that_comes_after_the_end_is_not_written(world: World) -> None:
    world.at_fetch = world.kept.close
    assert world.after(LIFE / 2) == ""
    assert not world.kept.path.parent.exists()


def test_a_refusal_that_comes_after_the_end_is_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.at_fetch = world.kept.close
    world.fail()
    assert world.after(LIFE / 2) == ""
    assert told(caplog) == []


def test_a_fault_of_ours_does_not_end_the_thread(world: World) -> None:
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()
    world.at_fetch = lambda: asked.put(None)
    keeper = FileKeeper(world.kept, lambda _: None)
    keeper.follow()
    world.error = ZeroDivisionError()
    keeper.change(is_gone=True)
    asked.get(timeout=20)
    world.error = None
    keeper.change(is_gone=True)
    while world.text() != "token-2":  # pytest's timeout ends it
        pass
    keeper.close()
    keeper.join()
    assert world.text() == ""


def test_after_its_end_nothing_is_written(world: World) -> None:
    world.kept.close()
    world.kept.close()
    assert not world.kept.look()
    assert not world.kept.change(is_gone=False)
    assert world.after(LIFE) == ""
    assert world.made == 1


def test_without_a_token_there_is_no_file(place: Path) -> None:
    with pytest.raises(WorkloadAPIError, match="away"):
        KeptFile(_refuse, lambda _: False, FakeClock(), "cloud")
    assert names(place) == []


def _refuse() -> JWTSVID:
    raise WorkloadAPIError("away", code="UNAVAILABLE")
