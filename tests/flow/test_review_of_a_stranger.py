"""`cognomen agent review --verify` with a file that anybody may have written, and signed with a key of his own."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognomen.cli.main import run
from cognomen.protocol.agentreview import MARK, SignedReview
from svid.encoding import JSON
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key

KEY = LocalSigningKey(KeyID("mine"), generate_private_key(KeyKind.EC_P256))
KEY_THUMBPRINT = SignedReview.signed({}, KEY).key_thumbprint
EVIL = "x\x1b[2J\x9b31m\u202e\x7f\n\ud800 not proved: nothing"
_COMPONENT: dict[str, JSON] = {
    "component": "crm",
    "kind": "other",
    "path": "/agent/a/crm",
    "use": "used",
    "last_minted": None,
    "last_fetched": "2026-12-01T00:00:00Z",
    "broad": [{"finding": "any-node", "problem": "it is for every node"}],
}
_AGENT: dict[str, JSON] = {
    "agent": "a",
    "purpose": "p",
    "state": "suspended",
    "suspended_by": "uid:0",
    "suspended_because": "why",
    "review_by": "2026-01-31",
    "on_overdue": "warn",
    "is_overdue": True,
    "components": [_COMPONENT],
}
_RETIRED: dict[str, JSON] = {
    "agent": "b",
    "owner": "ann",
    "at": "2026-12-01T00:00:00Z",
    "revision": 1,
    "by": "uid:0",
    "comment": "c",
}
_REVIEW: dict[str, JSON] = {
    MARK: 1,
    "trust_domain": "example.org",
    "issuer": "spiffe://example.org/cognomen/issuer",
    "incarnation": "1",
    "at": "2026-12-01T00:00:00Z",
    "revision": 7,
    "rulebook_sha256": "00",
    "applied_at": "2026-12-01T00:00:00Z",
    "applied_by": "uid:0",
    "unused_for": "60d",
    "uses_since": "2026-12-01T00:00:00Z",
    "not_reporting": ["n1"],
    "audit_rows": 1,
    "audit_head": "00",
    "owners": [{"owner": "ann", "agents": [_AGENT]}],
    "retired": [_RETIRED],
}

Path_ = tuple[str | int, ...]


def _places(value: JSON, path: Path_ = ()) -> Iterator[Path_]:
    """The places of all values within this one."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _places(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _places(one, (*path, number))


PLACES = [path for path in _places(_REVIEW) if path != (MARK,)]
KEYS = [path for path in PLACES if isinstance(path[-1], str)]


def _holder(document: JSON, path: Path_) -> dict[str | int, JSON]:
    found: JSON = document
    for key in path[:-1]:
        found = found[key]  # type: ignore[index]  # the path is of this document
    return found  # type: ignore[return-value]  # a list is changed in the same way


def verified(file: Path, document: dict[str, JSON], *more: str) -> int:
    signed = SignedReview.signed(document, KEY)
    written = {**document, "public_key": signed.public_key.hex(), "signature": signed.signature.hex()}
    file.write_text(json.dumps(written))
    return run(["agent", "review", "--verify", str(file), *more])


def _evil(value: JSON) -> JSON:
    """The same, with other texts; a time stays one, because a cell may show it as such."""
    match value:
        case str():
            return EVIL + value
        case list():
            return [_evil(one) for one in value]
        case dict():
            return {key: _evil(one) for key, one in value.items()}
    return value


@pytest.mark.parametrize("more", [(), ("-o", "wide"), ("-o", "json")])
def test_no_text_of_it_controls_the_terminal(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = _evil(_REVIEW)
    assert isinstance(document, dict)
    document |= {EVIL.replace("\ud800", ""): EVIL, "key": "0" * 64, "not_proved": []}
    assert verified(tmp_path / "review.json", document, *more) == 0
    out, err = capsys.readouterr()
    assert all(line.isprintable() for text in (out, err) for line in text.split("\n"))
    assert KEY_THUMBPRINT in out
    own, evil = out.index("that the key above is the issuer's"), out.index("x\\")
    assert own < evil
    if more == ("-o", "json"):
        assert json.loads(out)["not_proved"] != []
        assert json.loads(out)["retired"] == document["retired"]


@pytest.mark.parametrize("path", KEYS, ids=lambda path: ".".join(map(str, path)))
def test_a_review_without_a_field_is_refused_and_the_field_named(
    path: Path_, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = copy.deepcopy(_REVIEW)
    del _holder(document, path)[path[-1]]
    assert verified(tmp_path / "review.json", document) == 1
    out, err = capsys.readouterr()
    assert (out, f"missing required field `{path[-1]}`" in err) == ("", True)


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_field_of_another_type_is_refused(path: Path_, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(_REVIEW)
    _holder(document, path)[path[-1]] = 1.5
    assert verified(tmp_path / "review.json", document) == 1
    out, err = capsys.readouterr()
    assert (out, "found" in err or "got `float`" in err) == ("", True)


def test_half_a_surrogate_pair_in_a_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(tmp_path / "review.json", {**_REVIEW, "\ud800": ""}) == 1
    assert capsys.readouterr().err.endswith("found half a surrogate pair, which stands for no character\n")
