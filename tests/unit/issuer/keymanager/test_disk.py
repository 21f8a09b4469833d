import asyncio
import stat
from pathlib import Path

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.keymanager.disk import DiskKeyManager
from svid.keys import KeyID, KeyKind

KEY = KeyID("x509-1")


def modes(directory: Path) -> dict[str, int]:
    """Of the directory (".") and what is in it."""
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
    return {".": stat.S_IMODE(directory.stat().st_mode), **found}


def is_there(directory: Path) -> bool:
    return directory.exists()


def open_to_its_group(directory: Path) -> None:
    directory.chmod(0o710)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


async def test_nothing_is_made_before_the_first_call(directory: Path) -> None:
    keys = DiskKeyManager(directory)
    assert not is_there(directory)
    assert await keys.list() == []
    assert modes(directory) == {".": 0o700}


async def test_keys_outlive_the_process(directory: Path) -> None:
    made = await DiskKeyManager(directory).generate(KEY, KeyKind.EC_P256)
    assert (await DiskKeyManager(directory).get(KEY)).public_key == made.public_key


async def test_a_key_is_one_file_that_is_ours_alone(directory: Path) -> None:
    await DiskKeyManager(directory).generate(KEY, KeyKind.EC_P256)
    assert modes(directory) == {".": 0o700, "x509-1.key": 0o600}


async def test_a_key_file_that_others_can_read_is_refused(directory: Path) -> None:
    keys = DiskKeyManager(directory)
    await keys.generate(KEY, KeyKind.EC_P256)
    (directory / "x509-1.key").chmod(0o640)
    with pytest.raises(Refused, match="mode 0640") as refused:
        await keys.get(KEY)
    assert (refused.value.kind, refused.value.hint) == (Kind.INVALID, f"chmod 600 {directory}/x509-1.key")


async def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    keys = DiskKeyManager(directory)
    await keys.list()
    open_to_its_group(directory)
    for asked in (keys.list(), keys.get(KEY), keys.generate(KEY, KeyKind.EC_P256)):
        with pytest.raises(Refused, match="mode 0710"):
            await asked


async def test_a_file_that_is_no_key_is_refused_and_its_text_not_repeated(directory: Path) -> None:
    keys = DiskKeyManager(directory)
    await keys.generate(KEY, KeyKind.EC_P256)
    (directory / "x509-1.key").write_bytes(b"secret")
    with pytest.raises(Refused) as refused:
        await keys.get(KEY)
    assert refused.value.kind is Kind.INVALID
    assert "secret" not in refused.value.detail


async def test_a_key_of_a_name_is_made_once_however_many_ask_at_once(directory: Path) -> None:
    keys = DiskKeyManager(directory)
    made = await asyncio.gather(*(keys.generate(KEY, KeyKind.EC_P256) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, Refused) for outcome in made) == 4


async def test_what_a_crash_left_behind_is_no_key(directory: Path) -> None:
    keys = DiskKeyManager(directory)
    await keys.list()
    (directory / ".x509-1.key.0123456789abcdef").write_bytes(b"half")
    (directory / "notes.txt").write_bytes(b"")
    assert await keys.list() == []
