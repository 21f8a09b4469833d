"""cognomen/cli/agentreview: which suspensions are shown of a review that was handed out."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cognomen.cli.agentreview import review
from cognomen.protocol.agentreview import MARK, VERSION, SignedReview
from svid.encoding import JSON
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key

KEY = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))
AT = "2026-12-01T00:00:00Z"
OF_AGENT: dict[str, JSON] = {"suspended_by": "uid:0", "suspended_because": "PR 7"}
NOBODY: dict[str, JSON] = {"suspended_by": "", "suspended_because": ""}


def shown(directory: Path, agent: dict[str, JSON], component: dict[str, JSON]) -> list[str]:
    row: dict[str, JSON] = {
        "component": "catalog", "kind": "connector", "path": "/agent/librarian/catalog", "use": "used",
        "last_minted": None, "last_fetched": None, "broad": [], **component,
    }  # fmt: skip
    one: dict[str, JSON] = {
        "agent": "librarian", "purpose": "lends books", "state": "active", "review_by": None, "on_overdue": "warn",
        "is_overdue": False, **agent, "components": [row],
    }  # fmt: skip
    about: dict[str, JSON] = {
        "trust_domain": "example.org", "issuer": "spiffe://example.org/cognomen/issuer", "incarnation": "1", "at": AT, "revision": 1,
        "rulebook_sha256": "0", "applied_at": AT, "applied_by": "uid:0", "unused_for": "30d", "uses_since": AT,
        "not_reporting": [], "audit_rows": 1, "audit_head": "0",
    }  # fmt: skip
    owners: list[JSON] = [{"owner": "a@example.org", "agents": [one]}]
    document: dict[str, JSON] = {MARK: VERSION, **about, "owners": owners, "retired": []}
    (directory / "review.json").write_bytes(SignedReview.signed(document, KEY).to_json())
    done = CliRunner().invoke(review, ["--verify", str(directory / "review.json")], catch_exceptions=False)
    return [line for line in done.output.splitlines() if "suspended by" in line]


@pytest.mark.parametrize(
    ("agent", "component", "expected"),
    [
        (NOBODY, {"state": "suspended", **OF_AGENT}, ["librarian/catalog: suspended by uid:0 PR 7"]),
        (OF_AGENT, OF_AGENT, ["librarian: suspended by uid:0 PR 7"]),
        (OF_AGENT, {}, ["librarian: suspended by uid:0 PR 7"]),  # as an older release wrote it
        (NOBODY, NOBODY, []),
    ],
)
def test_a_component_that_is_suspended_alone_is_named_with_who_did_it_and_why(
    tmp_path: Path, agent: dict[str, JSON], component: dict[str, JSON], expected: list[str]
) -> None:
    assert shown(tmp_path, agent, component) == expected
