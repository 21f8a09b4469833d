"""Entries as SPIRE prints them, for tests."""

from collections.abc import Sequence

from cognomen.rulebook.equality import differences
from cognomen.rulebook.given import Choices
from cognomen.rulebook.importing import Imported, import_entries
from cognomen.rulebook.spire import read_spire
from cognomen.rulebook.writing import written
from svid.spiffeid import TrustDomain

__all__ = ["DOMAIN", "entry", "imported", "printed"]

DOMAIN = TrustDomain("example.org")


def entry(path: str, parent: str, *selectors: str, **more: object) -> dict[str, object]:
    """One entry; a parent of SPIRE's is `/spire/…`."""
    return {
        "id": "5f0c0f3a",
        "spiffe_id": {"trust_domain": DOMAIN.name, "path": path},
        "parent_id": {"trust_domain": DOMAIN.name, "path": parent},
        "selectors": [dict(zip(("type", "value"), one.split(":", 1), strict=True)) for one in selectors],
        "x509_svid_ttl": 0,
        "federates_with": [],
        "hint": "",
        "admin": False,
        "created_at": "1700000000",
        "downstream": False,
        "expires_at": "0",
        "dns_names": [],
        "revision_number": "0",
        "store_svid": False,
        "jwt_svid_ttl": 0,
        "additional_attributes": None,
        **more,
    }


def printed(*entries: dict[str, object]) -> dict[str, Sequence[object] | str]:
    """What `spire-server entry show -output json` prints."""
    return {"entries": list(entries), "next_page_token": ""}


def imported(*entries: dict[str, object], choices: Choices | None = None) -> Imported:
    """What becomes of them; the rulebook means the same."""
    found, faults = read_spire(printed(*entries), "entries.json")
    assert [str(one) for one in faults] == []
    result = import_entries(found, DOMAIN, choices or Choices(owner="a@example.org", purpose="p"))
    assert list(differences(written(result.rulebook), result.placed, DOMAIN)) == []
    return result
