"""What a writer that was killed leaves beside a private file is removed; what one is about to write is not."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attestor.state.disk import DiskState
from cognomen.cli.devstate import DevState
from cognomen.process.privatefile import private_directory, read_private, write_private
from cognomen.process.wholefile import sweep
from cognomen.protocol.errors import Kind, Refused
from issuer.keymanager.disk import DiskKeyManager
from svid.keys import KeyID, KeyKind

LEFT = ".node.state.0123456789abcdef"
KILLED = """
import os, signal, sys
from pathlib import Path
from cognomen.process.privatefile import write_private
os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
write_private(Path(sys.argv[1]), b"secret")
"""
SLOW = """
import os, sys
from pathlib import Path
from cognomen.process.privatefile import write_private
replace = os.replace
def wait(*arguments, **named):
    print("written", flush=True)
    sys.stdin.read()
    replace(*arguments, **named)
os.replace = wait
write_private(Path(sys.argv[1]), b"secret")
"""


def dev(directory: Path) -> None:
    with DevState(path=directory).taken():
        pass


def keys_in(directory: Path) -> object:
    return asyncio.run(DiskKeyManager(directory).list())


def killed(path: Path) -> list[str]:
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    return [left.name for left in path.parent.iterdir() if left.name != path.name]


@pytest.mark.parametrize("owner", [keys_in, DiskState, dev], ids=["keys", "attestor", "dev"])
def test_what_was_left_is_removed_at_the_start(owner: Callable[[Path], object], tmp_path: Path) -> None:
    directory = private_directory(tmp_path / "state")
    assert len(killed(directory / "any")) == 1
    (directory / LEFT).write_bytes(b"key")
    (directory / ".not.one").write_bytes(b"")
    owner(directory)
    assert {path.name for path in directory.iterdir()} - {"lock"} == {".not.one"}


def test_what_was_left_of_a_file_is_removed_by_the_next_that_writes_it_anywhere(tmp_path: Path) -> None:
    assert len(killed(tmp_path / "invite")) == 1
    (tmp_path / LEFT).write_bytes(b"of another program")
    write_private(tmp_path / "invite", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [LEFT, "invite"]


def test_what_somebody_still_writes_is_left_alone(tmp_path: Path) -> None:
    path = private_directory(tmp_path / "state") / "key"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writing:
        assert writing.stdout is not None
        assert writing.stdin is not None
        writing.stdout.readline()
        sweep(path.parent)
        write_private(path, b"ours")
        writing.stdin.close()
    assert (writing.returncode, read_private(path)) == (0, b"secret")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_what_is_another_users_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / LEFT).write_bytes(b"")
    os.chown(tmp_path / LEFT, 65533, 65533)
    sweep(tmp_path)
    assert (tmp_path / LEFT).exists()


def test_a_directory_or_a_pipe_of_such_a_name_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / LEFT).mkdir()
    os.mkfifo(tmp_path / LEFT.replace("node", "other"))
    sweep(tmp_path)
    assert (tmp_path / LEFT).is_dir()


class Disk:
    """Directories are not made durable while it fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = False
        self.synced = 0
        fsync = os.fsync

        def failing(descriptor: int) -> None:
            if Path(f"/proc/self/fd/{descriptor}").is_dir():
                if self.fails:
                    raise OSError(5, "Input/output error")
                self.synced += 1
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", failing)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_a_key_that_is_not_durable_is_nobodys_and_the_next_try_makes_another(disk: Disk, tmp_path: Path) -> None:
    keys = DiskKeyManager(tmp_path / "keys")
    disk.fails = True
    with pytest.raises(Refused) as refused:
        await keys.generate(KeyID("k"), KeyKind.EC_P256)
    assert refused.value.kind is Kind.UNAVAILABLE
    with pytest.raises(Refused) as refused:
        await keys.get(KeyID("k"))
    assert refused.value.kind is Kind.NOT_FOUND
    disk.fails = False
    made = await keys.generate(KeyID("k"), KeyKind.EC_P256)
    assert (await keys.get(KeyID("k"))).public_key == made.public_key


async def test_a_key_of_a_process_that_ended_before_it_was_durable_is_made_so_before_anybody_has_it(
    disk: Disk, tmp_path: Path
) -> None:
    await DiskKeyManager(tmp_path / "keys").generate(KeyID("k"), KeyKind.EC_P256)
    keys = DiskKeyManager(tmp_path / "keys")
    disk.fails = True
    with pytest.raises(Refused, match="input/output error"):
        await keys.get(KeyID("k"))
    disk.fails = False
    before = disk.synced
    for _ in range(3):
        await keys.get(KeyID("k"))
    assert disk.synced == before + 1, "asked once"


def test_a_directory_that_was_made_is_durable_before_anything_in_it(disk: Disk, tmp_path: Path) -> None:
    disk.fails = True
    with pytest.raises(Refused, match="input/output error"):
        private_directory(tmp_path / "above" / "state")
    disk.fails = False
    private_directory(tmp_path / "other" / "state")
    assert disk.synced == 2
