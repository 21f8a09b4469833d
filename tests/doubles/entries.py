"""Registration entries for tests, made from a name and what matters."""

from dataclasses import replace
from datetime import UTC, datetime

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.selector import Selector
from svid.spiffeid import SpiffeID

UID_1000 = frozenset({Selector("unix", "uid:1000")})


def entry(name: str, **changes: object) -> RegistrationEntry:
    """`spiffe://example.org/<name>` for uid 1000, with these fields changed."""
    made = RegistrationEntry(
        id=EntryID(name),
        spiffe_id=SpiffeID.parse(f"spiffe://example.org/{name}"),
        parent_id=SpiffeID.parse("spiffe://example.org/cognomen/node/join_token/a"),
        selectors=UID_1000,
        x509_svid_ttl=None,
        jwt_svid_ttl=None,
        expires_at=None,
        dns_names=(),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        labels={},
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # the test names the fields
