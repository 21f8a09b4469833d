"""Files that an operator gives us, an invite, a configuration, a file for checkpoints: who may own, read and write them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from attestor.config import AttestorConfig
from attestor.state.denialfile import DenialFile
from attestor.state.disk import DiskState
from cognomen.cli.invitefile import load_invite
from cognomen.daemon.config import load
from cognomen.process.privatefile import read_given, read_private
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.errors import Kind, Refused
from issuer.backup import restore
from issuer.checkpointsink.file import FileSink
from issuer.keymanager.disk import DiskKeyManager
from svid.spiffeid import TrustDomain
from tests.doubles.groups import NO_GROUPS
from tests.doubles.hints import typed

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
STRANGER = 65533


def given(path: Path) -> bytes:
    return read_given(path, "invite", max_bytes=10)


def a_file(path: Path, mode: int = 0o600, text: str = "secret", owner: int | None = None) -> Path:
    path.write_text(text)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


def test_an_invite_of_ours_alone_is_read_through_links_too(tmp_path: Path) -> None:
    a_file(tmp_path / "f")
    (tmp_path / "link").symlink_to("f")
    assert (given(tmp_path / "f"), given(tmp_path / "link")) == (b"secret", b"secret")


@needs_root
@pytest.mark.parametrize("read", [given, lambda path: restore(path, path.with_name("new"), actor="uid:0")])
@pytest.mark.parametrize("whose_directory", [0, STRANGER])
def test_nobody_else_chooses_by_a_link_which_file_of_ours_is_read(
    tmp_path: Path, read: Callable[[Path], object], whose_directory: int
) -> None:
    ours = a_file(tmp_path / "f")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    os.chown(tmp_path / "shared", whose_directory, whose_directory)
    link = tmp_path / "shared" / "link"
    link.symlink_to(ours)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(Refused, match=f"expected root or uid 0 as its owner, found uid {STRANGER}, who can change it"):
        read(link)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602])
def test_an_invite_that_others_can_read_or_write_is_refused_until_the_hint_is_typed(tmp_path: Path, mode: int) -> None:
    path = a_file(tmp_path / "in vite", mode)
    with pytest.raises(Refused, match=f"no access for others, because it holds a secret, found mode {mode:04o}") as no:
        given(path)
    typed(no.value.hint)
    assert given(path) == b"secret"


@needs_root
def test_an_invite_of_another_user_is_refused_and_the_hint_says_how_to_trust_it(tmp_path: Path) -> None:
    path = a_file(tmp_path / "invite", owner=STRANGER)
    with pytest.raises(Refused, match=f"expected root or uid 0 as its owner, found uid {STRANGER}") as refused:
        given(path)
    assert refused.value.hint.endswith(f"standard input: - < {path}")


@needs_root
@pytest.mark.parametrize(("mode", "is_fine"), [(0o640, True), (0o600, False), (0o644, False), (0o660, False)])
def test_what_is_roots_may_be_for_our_group(mode: int, *, is_fine: bool) -> None:
    """As systemd's credentials are."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = a_file(Path(directory) / "f", mode)
        os.chown(path, 0, STRANGER)
        as_stranger = (
            "import os, sys; from tests.unit.cognomen.process.test_given_files import given, Path; os.setgroups([]);"
            f" os.setgid({STRANGER}); os.setuid({STRANGER}); print(given(Path(sys.argv[1])))"
        )
        done = subprocess.run(
            [sys.executable, "-c", as_stranger, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.stdout == "b'secret'\n") is is_fine, done.stderr


def test_an_invite_below_a_directory_that_others_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    path = a_file(tmp_path / "open" / "f")
    (tmp_path / "open").chmod(0o777)
    for read in (given, read_private):
        with pytest.raises(Refused, match=r"directory .*/open: .* found mode 0777"):
            read(path)


def test_an_invite_too_large_missing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    a_file(tmp_path / "large", text="x" * 11)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, kind in (("large", Kind.INVALID), ("none", Kind.NOT_FOUND), (".", Kind.INVALID), ("pipe", Kind.INVALID)):
        with pytest.raises(Refused) as refused:
            given(tmp_path / name)
        assert refused.value.kind is kind


def test_a_stream_that_a_shell_hands_over_is_read_as_it_is() -> None:
    call = "import sys; from tests.unit.cognomen.process.test_given_files import given, Path; print(given(Path(sys.argv[1])))"
    shell = 'exec "$0" -c "$1" <(echo secret)'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, call], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "b'secret\\n'\n"


def test_the_file_of_an_invite_is_looked_at_before_what_is_in_it(tmp_path: Path) -> None:
    path = a_file(tmp_path / "invite", 0o644)
    with pytest.raises(Refused, match="because it holds a secret, found mode 0644") as refused:
        load_invite(str(path))
    typed(refused.value.hint)
    with pytest.raises(Refused, match="expected text that begins with cognomen-invite"):
        load_invite(str(path))


def keys_in(directory: Path) -> object:
    return asyncio.run(DiskKeyManager(directory).list())


@needs_root
@pytest.mark.parametrize("keeper", [keys_in, DiskState, DenialFile], ids=lambda keeper: keeper.__name__)
def test_no_state_is_kept_below_another_users_directory(keeper: Callable[[Path], object], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, STRANGER, STRANGER)
    for state in (theirs, theirs / "state", theirs / "a" / "state"):
        with pytest.raises(Refused) as refused:
            keeper(state)
        assert f"found uid {STRANGER}" in refused.value.detail
    assert list(theirs.iterdir()) == []


def test_an_empty_name_is_no_invite() -> None:
    with pytest.raises(Refused, match="expected a path or -, found an empty string"):
        load_invite("")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_configuration_that_others_write_is_refused_until_the_hint_is_typed(tmp_path: Path, mode: int) -> None:
    path = a_file(tmp_path / "c.toml", mode, "connections_per_uid = 7")
    with pytest.raises(
        Refused, match=rf"config .*: expected write access for its owner only, found mode {mode:04o}"
    ) as no:
        load(path, AttestorConfig, {}, groups=NO_GROUPS)
    typed(no.value.hint)
    assert load(path, AttestorConfig, {}).connections_per_uid == 7


@needs_root
def test_a_configuration_of_another_user_is_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path / "c.toml", 0o644, "", owner=STRANGER)
    with pytest.raises(Refused, match=f"found uid {STRANGER}") as refused:
        load(path, AttestorConfig, {})
    typed(refused.value.hint)
    assert load(Path(f"{path}.own"), AttestorConfig, {}) == AttestorConfig()


def test_a_configuration_that_is_no_file_may_be_empty() -> None:
    assert load(Path(os.devnull), AttestorConfig, {}) == AttestorConfig()


CHECKPOINT = Checkpoint(
    trust_domain=TrustDomain("example.org"),
    incarnation="i",
    count=1,
    head=b"\x01" * 32,
    at=datetime(2026, 1, 1, tzinfo=UTC),
    public_key=b"k",
)


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o602])
async def test_a_file_for_checkpoints_that_others_write_is_refused_until_the_hint_is_typed(
    tmp_path: Path, mode: int
) -> None:
    path = a_file(tmp_path / "f", mode, "")
    with pytest.raises(Refused, match="expected one that nobody else may write") as refused:
        await FileSink(path, groups=NO_GROUPS).write(CHECKPOINT)
    assert (refused.value.kind, path.read_bytes()) == (Kind.INVALID, b"")
    typed(refused.value.hint)
    await FileSink(path).write(CHECKPOINT)
    assert path.read_bytes() == CHECKPOINT.to_json() + b"\n"


@needs_root
async def test_a_file_for_checkpoints_of_another_user_is_refused_until_the_hint_is_typed(tmp_path: Path) -> None:
    path = a_file(tmp_path / "f", 0o666, "", owner=STRANGER)
    with pytest.raises(Refused, match=f"expected root or uid 0 as its owner, found uid {STRANGER}") as refused:
        await FileSink(path).write(CHECKPOINT)
    typed(refused.value.hint)
    await FileSink(path).write(CHECKPOINT)
    assert path.read_bytes() == CHECKPOINT.to_json() + b"\n"


async def test_a_file_for_checkpoints_with_a_second_name_or_below_an_open_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").hardlink_to(a_file(tmp_path / "precious"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for path in (tmp_path / "f", tmp_path / "open" / "f"):
        with pytest.raises(Refused) as refused:
            await FileSink(path).write(CHECKPOINT)
        assert refused.value.kind is Kind.INVALID
    assert (tmp_path / "precious").read_text() == "secret"
