"""A set of files in a directory that others write, as an emptyDir of Kubernetes: what they can do there, and that it ends there."""

import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.rig.child import Child, of_uid
from cognomen.cli.fileset import add_to_set, write_set
from cognomen.cli.main import run
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.groups import ANA, acting_as

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="being another user needs root")
STRANGER = 65533
GENERATION = "..0123456789abcdef"


@dataclass(frozen=True, kw_only=True)
class Place:
    volume: Path  # root's, and everybody writes it
    outside: Path  # ana's, and nobody else writes it

    def outside_now(self) -> list[tuple[str, int, bytes]]:
        """What lies outside, its modes and what is in it."""
        return [
            (str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in sorted(self.outside.rglob("*"))
        ]

    def write(self, generation: str = "1") -> None:
        with acting_as(ANA):
            write_set(self.volume, {"key": generation.encode()}, {"cert": generation.encode()}, shared=True)

    def add(self) -> None:
        with acting_as(ANA):
            add_to_set(self.volume, "denied", b"why", shared=True)


@pytest.fixture
def place() -> Iterator[Place]:
    with TemporaryDirectory() as path:
        place = Place(volume=Path(path) / "volume", outside=Path(path) / "outside")
        for directory in (Path(path), place.volume, place.outside, place.outside / "below"):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        for name in ("key", "cert", "denied", "..lock", ".key.0123456789abcdef", "below/key"):
            (place.outside / name).write_text("ana's own")
            (place.outside / name).chmod(0o640)
        for each in (place.outside, *place.outside.rglob("*")):
            os.chown(each, ANA, ANA)
        place.volume.chmod(0o2777)
        yield place


@needs_root
def test_a_volume_that_others_write_is_refused_and_the_hint_names_the_option(place: Place) -> None:
    with acting_as(ANA), pytest.raises(Refused, match="found mode 2777") as refused:
        write_set(place.volume, {}, {"cert": b"1"})
    assert refused.value.hint.endswith("if you trust everybody who can write this one, add --shared-directory")
    assert list(place.volume.iterdir()) == []


@needs_root
def test_in_a_shared_directory_the_files_are_there_with_their_modes_one_set_after_the_other(place: Place) -> None:
    for generation in ("1", "2"):
        place.write(generation)
        for name, mode in (("key", 0o600), ("cert", 0o644)):
            found = (place.volume / name).stat()
            assert ((place.volume / name).read_text(), stat.S_IMODE(found.st_mode), found.st_uid) == (
                generation,
                mode,
                ANA,
            )
    place.add()
    assert sorted(path.name for path in place.volume.iterdir() if not path.name.startswith("..")) == [
        "cert",
        "denied",
        "key",
    ]
    assert len(list(place.volume.glob("..????????????????"))) == 1


@needs_root
def test_only_the_directory_itself_may_be_shared(place: Place) -> None:
    (place.volume / "below").mkdir()
    os.chown(place.volume / "below", ANA, ANA)
    with acting_as(ANA), pytest.raises(Refused, match="found mode 2777") as refused:
        write_set(place.volume / "below", {}, {"cert": b"1"}, shared=True)
    assert "--shared-directory" not in refused.value.hint
    os.chown(place.volume, STRANGER, STRANGER)
    with acting_as(ANA), pytest.raises(Refused, match=f"found uid {STRANGER}"):
        write_set(place.volume, {}, {"cert": b"1"}, shared=True)


def directory_of_strangers(place: Place) -> None:
    (place.volume / GENERATION).mkdir()
    for name in ("key", "cert", "denied"):
        (place.volume / GENERATION / name).symlink_to(place.outside / name)
    (place.volume / GENERATION / "below").symlink_to(place.outside)
    (place.volume / GENERATION).chmod(0o777)
    os.chown(place.volume / GENERATION, STRANGER, STRANGER)
    (place.volume / "..data").symlink_to(GENERATION)


def links(**targets: str) -> Callable[[Place], None]:
    """Plant links; a name has `_` for a dot, as they go into keywords."""

    def plant(place: Place) -> None:
        for name, target in targets.items():
            (place.volume / name.replace("_", ".")).symlink_to(target.format(outside=place.outside))

    return plant


PLANTED = {
    "the set": links(__data="{outside}"),
    "the set, as an old one": links(__0123456789abcdef="{outside}"),
    "the set, by a link to that": links(__0123456789abcdef="{outside}", __data=GENERATION),
    "the set, by the way up": links(__data="../outside"),
    "a directory of theirs": directory_of_strangers,
    "the files": links(key="{outside}/key", cert="{outside}/cert", denied="{outside}/denied"),
    "the lock": links(__lock="{outside}/..lock"),
    "the lock, by a second name": lambda place: (place.volume / "..lock").hardlink_to(place.outside / "..lock"),
    "a circle": links(__data="..data", key="..data/key"),
}


@needs_root
@pytest.mark.parametrize("planted", PLANTED)
def test_whatever_others_have_put_there_nothing_outside_is_reached(place: Place, planted: str) -> None:
    PLANTED[planted](place)
    before = place.outside_now()
    for step in (place.add, place.write, place.add, place.write):
        with suppress(Refused):
            step()
    assert place.outside_now() == before
    if "lock" not in planted:
        assert (place.volume / "key").read_bytes() == b"1", "what can be mended is mended"


@needs_root
@pytest.mark.parametrize("name", ["..lock", "..watch"])
def test_a_lock_that_somebody_else_can_hold_is_not_waited_for(place: Place, name: str) -> None:
    (place.volume / name).touch()
    (place.volume / name).chmod(0o666)
    with pytest.raises(
        Refused, match=rf"{re.escape(name)}: expected one of uid {ANA} alone, found one of uid 0"
    ) as refused:
        place.write()
    assert refused.value.kind is Kind.INVALID


class Swapping(dict[str, bytes]):
    """Files of a set; when the writer comes to them, its directory is swapped for a link that leads out."""

    def __init__(self, place: Place) -> None:
        super().__init__(key=b"1", cert=b"1")
        self._place = place

    def items(self) -> Iterator[tuple[str, bytes]]:  # type: ignore[override]  # a generator does for a loop
        for generation in self._place.volume.glob("..????????????????"):
            if not generation.is_symlink():
                generation.rename(self._place.volume / "stolen")
                generation.symlink_to(self._place.outside)
        yield from super().items()


@needs_root
def test_a_generation_that_is_swapped_while_it_is_written_leads_nowhere_else(place: Place) -> None:
    before = place.outside_now()
    files: Mapping[str, bytes] = Swapping(place)
    with acting_as(ANA):
        write_set(place.volume, files, {}, shared=True)
    assert (place.volume / "stolen" / "key").read_bytes() == b"1"
    place.add()
    place.write("2")
    assert place.outside_now() == before
    assert (place.volume / "key").read_bytes() == b"2"


SWAPS = """
cd "$1" || exit
number=0
until [ -e stop ]; do
  for name in ..????????????????; do
    [ -d "$name" ] && [ ! -L "$name" ] || continue
    number=$((number + 1))
    mv -T "$name" "stolen.$number" && ln -s "$2" "$name"
  done
  ln -sfn "$2" ..data
  ln -sfn "$2/key" key
done 2> /dev/null
"""


@needs_root
def test_a_stranger_who_swaps_all_names_all_the_time_reaches_nothing_outside(place: Place) -> None:
    before = place.outside_now()
    swaps = of_uid(STRANGER, ["sh", "-c", SWAPS, "swaps", str(place.volume), str(place.outside)])
    with Child(swaps, stdout=subprocess.DEVNULL) as stranger:
        while not (place.volume / "key").is_symlink():
            assert stranger.poll() is None
        for _ in range(20):
            for step in (place.write, place.add):
                with suppress(Refused):
                    step()
        assert stranger.poll() is None
        (place.volume / "stop").touch()  # a shell that is killed leaves its last mv or ln to run on
        stranger.wait()
    assert place.outside_now() == before


@pytest.mark.parametrize("kind", [["x509"], ["jwt", "--audience=a"], ["bundles"]], ids=lambda kind: kind[0])
@pytest.mark.parametrize("watch", [[], ["--watch"]], ids=["once", "watch"])
def test_where_no_files_can_be_written_nothing_is_asked_for(
    kind: list[str], watch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    socket = f"--socket={tmp_path}/nobody-listens"
    assert run(["fetch", *kind, *watch, socket, f"--write={tmp_path}/open"]) == 1
    assert "found mode 0777" in capsys.readouterr().err
    assert run(["fetch", *kind, *watch, socket, "--shared-directory"]) == 2
    assert "--shared-directory needs --write" in capsys.readouterr().err
    assert list((tmp_path / "open").iterdir()) == []
