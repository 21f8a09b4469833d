"""cognomen/process/ownpath: which directories are ours, up to `/`."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognomen.process.ownpath import listed, own_directory
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.groups import NO_GROUPS
from tests.doubles.hints import typed

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
STRANGER = 65533


def names(path: Path, *, make: bool = False, shared: bool = False) -> list[str]:
    with own_directory(path, make=make, shared=shared, groups=NO_GROUPS) as directory:
        return listed(directory)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a space in its name, so that a hint must quote it."""
    path = tmp_path / "a b"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture(params=[0, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_is_missing_is_made_and_nobody_else_writes_it(place: Path, umask: int) -> None:
    assert names(place / "c" / "d", make=True) == []
    for made in (place / "c", place / "c" / "d"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o755 & ~umask


def test_what_is_missing_is_not_found(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        names(place / "c" / "d")


def test_a_file_is_no_directory(place: Path) -> None:
    (place / "f").touch()
    for path in (place / "f", place / "f" / "d"):
        with pytest.raises(NotADirectoryError):
            names(path, make=True)


def test_a_relative_path_is_one_below_the_current_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "c").mkdir()
    monkeypatch.chdir(place)
    assert [names(Path(path)) for path in (".", "c", "c/..", "./c/../c")] == [["c"], [], ["c"], []]


def test_a_path_longer_than_the_kernel_takes_at_once_is_walked(place: Path) -> None:
    deep = Path("/".join(["d" * 200] * 30))
    names(place / deep, make=True)
    with own_directory(place / deep) as directory:
        assert stat.S_ISDIR(os.fstat(directory).st_mode)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o2775])
@pytest.mark.parametrize("below", [".", "state"])
def test_a_directory_that_others_write_is_refused_until_the_hint_is_typed(place: Path, mode: int, below: str) -> None:
    (place / "state").mkdir()
    place.chmod(mode)
    with pytest.raises(Refused, match=f"expected write access for its owner only, found mode {mode:04o}") as refused:
        names(place / below)
    assert refused.value.kind is Kind.INVALID
    typed(refused.value.hint)
    names(place / below)


def test_below_a_sticky_directory_that_all_write_ours_is_fine_and_it_itself_is_not(place: Path) -> None:
    place.chmod(0o1777)
    assert names(place / "own", make=True) == []
    assert names(place, shared=True) == ["own"]
    with pytest.raises(Refused, match="found mode 1777") as refused:
        names(place)
    assert refused.value.hint == f"name a directory below it, such as '{place}/cognomen'"
    assert names(place / "cognomen", make=True) == []


@needs_root
@pytest.mark.parametrize("below", [".", "ours", "ours/too"])
def test_another_users_directory_is_refused_and_so_is_what_lies_below(place: Path, below: str) -> None:
    (place / "ours" / "too").mkdir(parents=True)
    os.chown(place, STRANGER, STRANGER)
    with pytest.raises(Refused, match=f"a b: expected root or uid 0 as its owner, found uid {STRANGER}") as refused:
        names(place / below)
    assert refused.value.hint.startswith("name a path that leads through no other user's directory, such as one below")


@needs_root
def test_in_another_users_directory_nothing_is_made(place: Path) -> None:
    os.chown(place, STRANGER, STRANGER)
    with pytest.raises(Refused):
        names(place / "c" / "d", make=True)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("target", ["real", "./real", "../a b/real", "/absolute"])
def test_a_link_of_ours_is_followed(place: Path, target: str) -> None:
    (place / "real" / "below").mkdir(parents=True)
    (place / "link").symlink_to(str(place / "real") if target == "/absolute" else target)
    assert names(place / "link") == ["below"]
    assert names(place / "link" / "below" / "..") == ["below"]


@needs_root
def test_a_link_of_another_user_is_refused(place: Path) -> None:
    place.chmod(0o1777)
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    os.chown(place / "link", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(Refused, match=rf"link {place}/link: expected root or uid 0 as its owner"):
        names(place / "link")


def test_a_link_into_a_directory_that_others_write_is_refused(place: Path) -> None:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    (place / "link").symlink_to("open")
    with pytest.raises(Refused, match=rf"directory {place}/open: .* found mode 0777"):
        names(place / "link")


def test_links_in_a_circle_end(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        names(place / "a")


def test_what_was_opened_stays_the_same_when_its_name_becomes_a_link(place: Path) -> None:
    (place / "ours").mkdir()
    (place / "theirs").mkdir()
    with own_directory(place / "ours") as directory:
        (place / "ours").rename(place / "moved")
        (place / "ours").symlink_to("theirs")
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=directory))
    assert ((place / "moved" / "f").exists(), list((place / "theirs").iterdir())) == (True, [])


def test_no_descriptor_is_left_however_it_ends(place: Path) -> None:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    (place / "link").symlink_to("open")
    open_now = Path("/proc/self/fd")
    before = len(list(open_now.iterdir()))
    names(place)
    for path in (place / "open", place / "link", place / "none"):
        with pytest.raises((Refused, FileNotFoundError)):
            names(path)
    assert len(list(open_now.iterdir())) == before
