"""A group that nobody but its user is in does not count as others: what a umask of 002 makes is that user's own."""

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from attestor.config import AttestorConfig
from cognomen.daemon.config import load
from cognomen.process.localids import PrivateGroups
from cognomen.process.ownpath import check_own_file, listed, own_directory
from cognomen.process.privatefile import private_directory, read_private
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.errors import Refused
from issuer.checkpointsink.file import FileSink
from svid.spiffeid import TrustDomain
from tests.doubles.groups import ANA, NO_GROUPS, acting_as, groups_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="being another user needs root")
STRANGER = 65533
ME, MINE = os.geteuid(), os.getegid()
PASSWD = f"me:x:{ME}:{MINE}::/:\n"
GROUP = f"me:x:{MINE}:\n"
CHECKPOINT = Checkpoint(
    trust_domain=TrustDomain("example.org"),
    incarnation="i",
    count=1,
    head=b"\x01" * 32,
    at=datetime(2026, 1, 1, tzinfo=UTC),
    public_key=b"k",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    passwd: str = PASSWD
    group: str = GROUP
    is_private: bool = False


CASES = [
    Case(name="the user's own group", is_private=True),
    Case(name="the user, named once more, is a member", group=f"me:x:{MINE}:me\n", is_private=True),
    Case(name="comments and empty lines", passwd=f"# users\n\n{PASSWD}", group=f"\n{GROUP}\n# end", is_private=True),
    Case(name="no password that anybody knows", group=f"me:!:{MINE}:\n", is_private=True),
    Case(name="another user has that first group", passwd=f"{PASSWD}bob:x:{STRANGER}:{MINE}::/:\n"),
    Case(name="another member", passwd=f"{PASSWD}bob:x:{STRANGER}:9::/:\n", group=f"me:x:{MINE}:bob\n"),
    Case(name="a member of a second line", passwd=f"{PASSWD}b:x:{STRANGER}:9::/:\n", group=f"{GROUP}x:x:{MINE}:b\n"),
    Case(name="a member whom nobody knows", group=f"me:x:{MINE}:bob\n"),
    Case(name="a name of two users", passwd=f"{PASSWD}me:x:{STRANGER}:9::/:\n", group=f"me:x:{MINE}:me\n"),
    Case(name="a group whom nobody knows", group="other:x:9:\n"),
    Case(name="a user whom nobody knows", passwd=f"bob:x:{STRANGER}:9::/:\n"),
    Case(name="not the first group of anybody", passwd=f"me:x:{ME}:9::/:\n", group=f"me:x:{MINE}:me\n"),
    Case(name="the first group of another user", passwd=f"bob:x:{STRANGER}:{MINE}::/:\n"),
    Case(name="a password by which others join", group=f"me:$6$x$y:{MINE}:\n"),
    Case(name="more users in a directory service", passwd=f"{PASSWD}+::::::\n"),
    Case(name="more groups in a directory service", group=f"{GROUP}+:::\n"),
    Case(name="a line of users that is not whole", passwd=f"{PASSWD}bob:x:{STRANGER}\n"),
    Case(name="a line of groups that is not whole", group=f"{GROUP}bob:x\n"),
    Case(name="a number that the C library would read", passwd=f"{PASSWD}bob:x: {STRANGER}:{MINE}::/:\n"),
    Case(name="a number without an end", passwd=f"{PASSWD}bob:x:{'1' * 5000}:{MINE}::/:\n"),
    Case(name="a group without a name", group=f"{GROUP}:x:9:\n"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whose_a_group_is_is_known_from_the_two_files_alone(case: Case, tmp_path: Path) -> None:
    assert groups_of(tmp_path, passwd=case.passwd, group=case.group).has(MINE) is case.is_private


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_a_file_that_is_missing_of_another_kind_or_that_others_write_says_nothing(name: str, tmp_path: Path) -> None:
    groups = groups_of(tmp_path, passwd=PASSWD, group=GROUP)
    assert groups.has(MINE)
    (tmp_path / name).chmod(0o664)
    assert not groups.has(MINE)
    (tmp_path / name).unlink()
    assert not groups.has(MINE)
    os.mkfifo(tmp_path / name, 0o644)
    assert not groups.has(MINE)


def test_the_group_of_all_whom_a_user_namespace_does_not_map_is_nobodys(tmp_path: Path) -> None:
    groups_of(tmp_path, passwd=PASSWD, group=GROUP)
    for name, text in {
        "self/uid_map": "0 1000 1\n",
        "self/gid_map": "0 1000 1\n",
        "sys/kernel/overflowuid": "65534",
        "sys/kernel/overflowgid": f"{MINE}",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert not PrivateGroups(tmp_path / "passwd", tmp_path / "group", proc=tmp_path).has(MINE)
    assert not PrivateGroups(tmp_path / "passwd", tmp_path / "group", proc=tmp_path / "none").has(MINE)


def names(path: Path, groups: PrivateGroups) -> list[str]:
    with own_directory(path, groups=groups) as directory:
        return listed(directory)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory as a umask of 002 makes it, and another in it."""
    (tmp_path / "home" / "below").mkdir(parents=True)
    for path in (tmp_path / "home", tmp_path / "home" / "below"):
        path.chmod(0o2775)
    return tmp_path / "home"


@pytest.fixture
def mine(tmp_path: Path) -> PrivateGroups:
    return groups_of(tmp_path, passwd=PASSWD, group=GROUP)


def test_directories_that_only_our_group_writes_are_ours(home: Path, mine: PrivateGroups) -> None:
    assert (names(home, mine), names(home / "below", mine)) == (["below"], [])
    with pytest.raises(Refused, match="found mode 2775"):
        names(home / "below", NO_GROUPS)
    home.chmod(0o777)
    with pytest.raises(Refused, match="found mode 0777"):
        names(home / "below", mine)


def let_write(path: Path, tag: int) -> None:
    """Give a file an access control list as setfacl(1) does: a user (tag 2) or a group (tag 8) more may write; source: acl(5)."""
    nobody = 0xFFFF_FFFF
    entries = [(0x01, 7, nobody), (0x04, 5, nobody), (tag, 7, STRANGER), (0x10, 7, nobody), (0x20, 5, nobody)]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as e:
        pytest.skip(f"the file system of the tests has no access control lists: {e.strerror}")
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IWGRP


@pytest.mark.parametrize("tag", [0x02, 0x08], ids=["user", "group"])
def test_where_an_access_control_list_lets_others_write_the_bits_of_the_group_say_so(
    home: Path, mine: PrivateGroups, tag: int
) -> None:
    let_write(home, tag)
    program = home / "below" / "run"
    program.touch(0o755)
    let_write(program, tag)
    for refused in (lambda: names(home / "below", mine), lambda: check_own_file(program, groups=mine)):
        with pytest.raises(Refused, match="found mode "):
            refused()
    home.chmod(0o755)
    with pytest.raises(Refused, match=r"file .*run: .* found mode 0775"):
        check_own_file(program, groups=mine)


async def test_files_that_only_our_group_writes_are_ours(home: Path, mine: PrivateGroups) -> None:
    for name, text, mode in (("c.toml", "connections_per_uid = 7", 0o664), ("run", "", 0o775), ("sink", "", 0o664)):
        (home / name).write_text(text)
        (home / name).chmod(mode)
    assert load(home / "c.toml", AttestorConfig, {}, groups=mine).connections_per_uid == 7
    check_own_file(home / "run", groups=mine)
    await FileSink(home / "sink", groups=mine).write(CHECKPOINT)
    assert (home / "sink").read_bytes() == CHECKPOINT.to_json() + b"\n"
    with pytest.raises(Refused, match="found mode"):
        check_own_file(home / "run", groups=NO_GROUPS)


def test_keys_and_state_are_for_us_alone_whoever_is_in_our_group(home: Path) -> None:
    home.chmod(0o755)
    (home / "key").touch()
    (home / "key").chmod(0o660)
    with pytest.raises(Refused, match="no access for group and others, found mode 0660"):
        read_private(home / "key")
    with pytest.raises(Refused, match="no access for group and others, found mode 2775"):
        private_directory(home / "below")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of root's that everybody may enter, and in it one of ana and one of a stranger with modes of a umask of 002."""
    with TemporaryDirectory() as path:
        place = Path(path)
        place.chmod(0o755)
        for name, uid in (("ana", ANA), ("stranger", STRANGER)):
            (place / name).mkdir()
            (place / name).chmod(0o775)
            os.chown(place / name, uid, uid)
        yield place


@needs_root
def test_a_users_own_group_is_that_users_and_nobody_elses(place: Path) -> None:
    groups = groups_of(place)
    with acting_as(ANA):
        assert names(place / "ana", groups) == []
        with pytest.raises(Refused, match=f"expected root or uid {ANA} as its owner, found uid {STRANGER}"):
            names(place / "stranger", groups)
    os.chown(place / "stranger", ANA, STRANGER)
    for uid in (ANA, 0):
        os.chown(place / "ana", uid, STRANGER)
        with acting_as(ANA), pytest.raises(Refused, match="found mode 0775"):
            names(place / "ana", groups)
    os.chown(place / "ana", 0, ANA)
    with pytest.raises(Refused, match="found mode 0775"):
        names(place / "ana", groups)


@needs_root
def test_roots_own_group_is_like_root(place: Path) -> None:
    groups = groups_of(place)
    for uid, gid in ((0, 0), (ANA, 0), (0, ANA)):
        os.chown(place / "ana", uid, gid)
        with acting_as(ANA):
            assert names(place / "ana", groups) == []
    os.chown(place / "ana", 0, 0)
    assert names(place / "ana", groups) == []
    more = groups_of(place, passwd=f"root:x:0:0::/:\nana:x:{ANA}:{ANA}::/:\noperator:x:11:0::/:\n")
    with acting_as(ANA), pytest.raises(Refused, match="found mode 0775"):
        names(place / "ana", more)
