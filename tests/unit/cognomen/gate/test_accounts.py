"""cognomen/gate/accounts: which uids are one account; localids: which ids are nobody's."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.rig.child import Child
from cognomen.gate.accounts import Subordinates, namespace_owner
from cognomen.process.localids import IDMap
from cognomen.protocol.errors import Kind, Refused

IDENTITY = "         0          0 4294967295\n"
IN_A_CONTAINER = "         0       1000          1\n         1     100000      65536\n"
HAS_NAMESPACES = (
    shutil.which("unshare") is not None and subprocess.run(["unshare", "--user", "true"], check=False).returncode == 0
)


@pytest.fixture
def subordinates(tmp_path: Path) -> Subordinates:
    (tmp_path / "passwd").write_bytes(b"root:x:0:0::/:\nana:x:1000:1000::/:\nb\xff:x:1001:1001::/:\nbroken\n")
    (tmp_path / "subuid").write_bytes(
        b"ana:100000:65536\n1001:165536:65536\nroot:1000000:1000000\ncontainers:3000000:200000\n"
        b"ana:231072:10\nana:0:10\nana:x:10\nana:1:2:3\nana:5000000:0\n4000:9000000:9999999999999\n"
    )
    return Subordinates(tmp_path / "subuid", tmp_path / "passwd")


@pytest.mark.parametrize(
    ("uid", "account"),
    [
        (0, 0),
        (1000, 1000),
        (99_999, 99_999),
        (100_000, 1000),
        (165_535, 1000),
        (165_536, 1001),
        (231_072, 1000),
        (231_082, 231_082),
        (1_000_000, 1_000_000),  # of root: never the account of root
        (1_000_000 + 65_535, 1_000_000),
        (1_000_000 + 65_536, 1_000_000 + 65_536),
        (3_000_001, 3_000_000),  # of a name that is no user's
        (5_000_000, 5_000_000),
        (2**32 - 1, 4000),
    ],
)
def test_a_user_and_its_subordinate_uids_are_one_account(subordinates: Subordinates, uid: int, account: int) -> None:
    assert subordinates.account(uid) == account


@pytest.mark.parametrize(
    ("uid", "account"),
    [
        (1_000_000, 1000),  # the range is root's as well, as LXD writes it
        (1_999_999, 1000),
        (3_065_536 - 1, 3_000_000),
        (3_065_536, 1001),
        (3_131_071, 1001),
        (3_131_072, 3_131_072),  # root's again, in the blocks of the whole range
        (3_131_073, 3_131_072),
        (3_262_143, 3_196_608),
        (3_262_144, 3_262_144),
        (5_000_050, 1001),
        (5_000_060, 1000),
        (5_000_100, 5_000_100),
    ],
)
@pytest.mark.parametrize("step", [1, -1])
def test_of_ranges_that_overlap_a_users_goes_before_root_s(tmp_path: Path, uid: int, account: int, step: int) -> None:
    lines = [
        *["ana:1000000:1000000", "root:1000000:1000000", "nobodys:1000000:1000000"],
        *["root:3000000:262144", "1001:3065536:65536"],
        *["ana:5000000:100", "1001:5000050:10"],
    ]
    (tmp_path / "passwd").write_text("ana:x:1000:1000::/:\n")
    (tmp_path / "subuid").write_text("\n".join(lines[::step]))
    assert Subordinates(tmp_path / "subuid", tmp_path / "passwd").account(uid) == account


def test_ranges_that_were_changed_count_at_once_and_none_are_needed(tmp_path: Path) -> None:
    subordinates = Subordinates(tmp_path / "subuid", tmp_path / "none", look_seconds=0)
    assert subordinates.account(100_000) == 100_000
    (tmp_path / "subuid").write_text("1000:100000:10\n")
    assert subordinates.account(100_000) == 100_000, "without passwd nobody is known, and no range is half read"
    (tmp_path / "none").write_text("")
    (tmp_path / "subuid").write_text("1000:100000:100\n")
    assert subordinates.account(100_000) == 1000
    (tmp_path / "subuid").unlink()
    assert subordinates.account(100_000) == 100_000


def proc(directory: Path, uid_map: str, gid_map: str) -> Path:
    for name, text in {
        "self/uid_map": uid_map,
        "self/gid_map": gid_map,
        "sys/kernel/overflowuid": "65534\n",
        "sys/kernel/overflowgid": "65533\n",
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def test_the_id_of_all_who_are_not_mapped_is_nobodys(tmp_path: Path) -> None:
    ids = IDMap(proc(tmp_path, IN_A_CONTAINER, IN_A_CONTAINER))
    for uid, gid in ((65534, 1), (1, 65533)):
        with pytest.raises(Refused, match=r"expected a .id that is mapped into our user namespace") as refused:
            ids.check(uid, gid, pid=1)
        assert refused.value.kind is Kind.DENIED
    ids.check(1, 65534, pid=1)
    assert ids.known(frozenset({1, 65533})) == {1}


def test_where_every_id_is_mapped_nobody_is_a_user_like_others(tmp_path: Path) -> None:
    ids = IDMap(proc(tmp_path, IDENTITY, IDENTITY))
    ids.check(65534, 65533, pid=1)
    assert ids.known(frozenset({65533})) == {65533}


def test_without_proc_nobody_is_identified(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="uid_map"):
        IDMap(tmp_path)


def test_a_process_of_our_own_user_namespace_has_no_other_owner() -> None:
    assert namespace_owner(os.getpid()) is None
    assert namespace_owner(2**22 + 1) is None


@pytest.mark.skipif(
    not HAS_NAMESPACES or os.geteuid() != 0, reason="needs unshare(1), user namespaces, and root to look into another's"
)
def test_a_process_in_a_user_namespace_belongs_to_whoever_made_the_outermost() -> None:
    nested = ["unshare", "-Ur", "unshare", "-Ur", "sh", "-c", "echo; read end"]
    command = ["setpriv", "--reuid=65531", "--clear-groups", *nested]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "\n"
        assert namespace_owner(child.pid) == 65531


@pytest.mark.skipif(not HAS_NAMESPACES, reason="needs unshare(1) and user namespaces")
@pytest.mark.skipif(os.geteuid() != 0, reason="two more uids need root")
def test_in_a_user_namespace_callers_that_are_not_mapped_are_refused() -> None:
    """Three uids had the identity of uid 65534."""
    listen = (
        "import socket, sys, time; from cognomen.gate.caller import peer; from cognomen.protocol.errors import Refused\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"
        "import os; os.chmod(sys.argv[1], 0o777); print('listens', flush=True)\n"
        "for _ in range(3):\n"
        "    a, _ = s.accept()\n"
        "    try: print(peer(a, accepted_at=time.clock_gettime(time.CLOCK_BOOTTIME)).uid, flush=True)\n"
        "    except Refused as e: print(e.detail, flush=True)\n"
        "    a.close()\n"
    )
    connect = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = f"{directory}/s"
        with Child(["unshare", "-Ur", sys.executable, "-c", listen, path], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "listens\n"
            found = []
            for uid in (0, 65532, 65533):
                ids = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
                command = ["setpriv", *ids, "/usr/bin/python3", "-c", connect, path]
                subprocess.run(command, timeout=20, check=False)
                found.append(server.stdout.readline().strip())
    assert found[0] == "0"
    assert all("expected a uid that is mapped" in one for one in found[1:]), found
