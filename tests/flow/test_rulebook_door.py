"""What the admin door refuses of a rulebook that no command of ours sent: names that cannot be kept or shown, and too many files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cognomen.cli.admin import Admin, connect
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.pb import admin_pb2 as pb
from tests.flow.commandline import issuer_at, socket_at
from tests.unit.cognomen.rulebook.books import CONCIERGE

Files = dict[str, str]

_METHODS: dict[str, Callable[[Admin, Files], object]] = {
    "plan": lambda admin, files: admin.plan_rulebook(pb.PlanRulebookRequest(files=files)),
    "apply": lambda admin, files: admin.apply_rulebook(pb.ApplyRulebookRequest(files=files, digest="x")),
    "ask": lambda admin, files: admin.ask_attestors(pb.AskAttestorsRequest(files=files, digest="x")),
}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    directory: Path = tmp_path_factory.mktemp("i")
    with issuer_at(directory), connect(socket_at(directory)) as found:
        yield found


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"x\x1b]0;pwn\x07.toml": CONCIERGE}, "expected a file name of printable characters"),
        ({"": CONCIERGE}, "expected a file name of printable characters"),
        ({"a/b.toml": CONCIERGE}, "expected the name of a file without its folder"),
        ({"n" * 3_000_000: CONCIERGE}, "expected a file name of at most 255 bytes, found 3000000"),
        ({f"f{number}.toml": "" for number in range(20_000)}, "expected at most 10000 files, found 20000"),
    ],
    ids=["control", "empty", "folder", "long", "many"],
)
def test_a_rulebook_whose_files_cannot_be_kept_is_refused(
    method: str, files: Files, problem: str, admin: Admin
) -> None:
    with pytest.raises(Refused) as raised:
        _METHODS[method](admin, files)
    assert raised.value.kind is Kind.INVALID
    assert raised.value.detail.startswith("files: ")
    assert raised.value.detail.endswith(problem)
    assert len(raised.value.detail) < 250


def test_a_key_of_many_names_keeps_nobody_waiting(admin: Admin) -> None:
    with pytest.raises(Refused, match="expected a key with at most 8 dots"):
        _METHODS["plan"](admin, {"a.toml": "a" + ".a" * 500_000 + " = 1\n"})
    assert _METHODS["plan"](admin, {"a.toml": CONCIERGE})
