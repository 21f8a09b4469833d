"""Convert registration entries from the output of SPIRE's `entry show -output json`.

The issuer checks the entries; cognomen/wire/admin decides what our documents look like.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cognomen.protocol.entry import EntryError
from cognomen.protocol.printable import printable
from cognomen.wire.admin import moment_to_text

__all__ = ["from_spire", "is_from_spire"]

_KNOWN = {
    "id", "spiffe_id", "parent_id", "selectors", "x509_svid_ttl", "jwt_svid_ttl", "dns_names", "hint", "expires_at",
    "revision_number", "created_at", "additional_attributes", "federates_with", "admin", "downstream", "store_svid",
}  # fmt: skip
_NOT_HERE = ("federates_with", "admin", "downstream", "store_svid")
_LAST_SECOND = 253_402_300_799  # of the year 9999, and of datetime
_EPOCH = datetime.fromtimestamp(0, UTC)


def is_from_spire(document: object) -> bool:
    """Whether an entry's document comes from SPIRE: its IDs are objects of trust domain and path."""
    return isinstance(document, Mapping) and isinstance(document.get("spiffe_id"), Mapping)


def from_spire(document: Mapping[str, object]) -> dict[str, object]:
    """Convert one of SPIRE's entries to ours; its id, revision and creation date are dropped.

    Shape: numbers may be texts, because protobuf's JSON writes 64-bit numbers so; 0 means that SPIRE has no value.

    Raises:
        EntryError: a field is unknown, or has a value that our entries cannot express.
    """
    for key, value in document.items():
        if key not in _KNOWN:
            raise EntryError(f"{printable(key)}: unknown field of a SPIRE entry")
        if key in _NOT_HERE and value:
            raise EntryError(f"{key}: not supported here yet, found {value!r}")
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
