"""Registration entries as SPIRE's `entry show -output json` writes them, turned into ours.

What an entry must be is said by the issuer; what our documents look like, by cognomen/wire/admin.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cognomen.wire.admin import moment_to_text
from svid.errors import EntryError

__all__ = ["from_spire", "is_from_spire"]

_KNOWN = {
    "id", "spiffe_id", "parent_id", "selectors", "x509_svid_ttl", "jwt_svid_ttl", "dns_names", "hint", "expires_at",
    "revision_number", "created_at", "additional_attributes", "federates_with", "admin", "downstream", "store_svid",
}  # fmt: skip
_NOT_HERE = ("federates_with", "admin", "downstream", "store_svid")
_LAST_SECOND = 253_402_300_799  # of the year 9999, and of datetime
_EPOCH = datetime.fromtimestamp(0, UTC)


def is_from_spire(document: object) -> bool:
    """Whether an entry's document is SPIRE's: its IDs are objects of trust domain and path."""
    return isinstance(document, Mapping) and isinstance(document.get("spiffe_id"), Mapping)


def from_spire(document: Mapping[str, object]) -> dict[str, object]:
    """Write an entry of SPIRE's as ours; its id, revision and dates of before are left behind.

    Shape: numbers may be texts, as protobuf's JSON has 64-bit ones; 0 is SPIRE's word for none.

    Raises:
        EntryError: a field that we do not know, or one that says what no entry of ours can.
    """
    for key, value in document.items():
        if key not in _KNOWN:
            raise EntryError(f"{key}: expected a field of SPIRE's entries, found another")
        if key in _NOT_HERE and value:
            raise EntryError(f"{key}: expected none, because there is no such thing here yet, found {value!r}")
    ours: dict[str, object] = {
        "spiffe_id": _id(document, "spiffe_id"),
        "parent_id": _id(document, "parent_id"),
        "selectors": document.get("selectors") or [],
        "dns_names": document.get("dns_names") or [],
        "hint": document.get("hint") or "",
    }
    for key in ("x509_svid_ttl", "jwt_svid_ttl"):
        if seconds := _number(document, key):
            ours[key] = seconds
    if seconds := _number(document, "expires_at"):
        ours["expires_at"] = moment_to_text(_EPOCH + timedelta(seconds=seconds))
    return ours


def _id(document: Mapping[str, object], key: str) -> str:
    match document.get(key):
        case {"trust_domain": str(name), "path": str(path)}:
            return f"spiffe://{name}{path}"
        case found:
            raise EntryError(f"{key}: expected an object of trust_domain and path, found {found!r}")


def _number(document: Mapping[str, object], key: str) -> int:
    found = document.get(key) or 0
    try:
        number = int(found) if isinstance(found, int | str) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= _LAST_SECOND:
        raise EntryError(f"{key}: expected a number of seconds, found {found!r}")
    return number
