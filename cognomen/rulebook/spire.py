"""Read the entries that SPIRE's server prints as JSON, with every fault in one run.

Which of them can be rules is decided in `importing`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from cognomen.protocol.selector import Selector
from cognomen.rulebook.faults import Fault, Tell, key_of, shown
from cognomen.rulebook.given import Extra, GivenEntry
from cognomen.rulebook.notedfaults import NotedFaults
from cognomen.rulebook.places import Path
from cognomen.rulebook.structs import read_struct
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

__all__ = ["MOST_ENTRIES", "read_spire"]

MOST_ENTRIES = 100_000
"""How many entries one import may have: as many as the issuer takes."""

_MOST_SECONDS = 2**31
_EXTRAS = (
    Extra.HINT,
    Extra.EXPIRES_AT,
    Extra.FEDERATES_WITH,
    Extra.ADMIN,
    Extra.DOWNSTREAM,
    Extra.STORE_SVID,
    Extra.ADDITIONAL_ATTRIBUTES,
)

_Number = Annotated[int | str, Meta(description="Protobuf's JSON writes numbers of 64 bits as texts; 0: none.")]


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry; an ID is an object of trust_domain and path, and a selector one of type and value."""

    spiffe_id: Mapping[str, str]
    parent_id: Mapping[str, str]
    selectors: list[Mapping[str, str]]
    id: str = ""
    x509_svid_ttl: _Number = 0
    jwt_svid_ttl: _Number = 0
    federates_with: list[str] = []
    admin: bool = False
    downstream: bool = False
    expires_at: _Number = 0
    dns_names: list[str] = []
    revision_number: _Number = 0
    store_svid: bool = False
    hint: str = ""
    created_at: _Number = 0
    additional_attributes: Mapping[str, object] = {}


def read_spire(document: object, file: str) -> tuple[Sequence[GivenEntry], Sequence[Fault]]:
    """Read the output of `spire-server entry show -output json`.

    Shape: an object with an array "entries", as SPIRE prints it, or that array alone.
    """
    noted = NotedFaults(file)
    found = document
    if isinstance(document, Mapping):
        found = document.get("entries")
        if document.get("next_page_token"):
            noted.tell(("next_page_token",), "expected all entries, found one page of them", "print them all")
    if not isinstance(found, list):
        noted.tell(("entries",), f"expected a list of entries, found {'nothing' if found is None else shown(found)}")
        return (), noted.faults()
    if len(found) > MOST_ENTRIES:
        noted.tell(("entries",), f"expected at most {MOST_ENTRIES} entries, found {len(found)}")
        return (), noted.faults()
    entries = [one for number, item in enumerate(found) if (one := _entry(item, ("entries", number), file, noted.tell))]
    return entries, noted.faults()


def _entry(item: object, path: Path, file: str, tell: Tell) -> GivenEntry | None:
    if isinstance(item, dict) and isinstance(item.get("spiffe_id"), str):
        tell((*path, "spiffe_id"), "expected an object of trust_domain and path, as SPIRE prints it", "")
        return None
    known = {key: value for key, value in item.items() if value is not None} if isinstance(item, dict) else item
    read = read_struct(known, _Entry, path, tell)
    if read is None:
        return None
    spiffe_id = _id(read.spiffe_id, (*path, "spiffe_id"), tell)
    parent_id = _id(read.parent_id, (*path, "parent_id"), tell)
    selectors = list(_selectors(read.selectors, (*path, "selectors"), tell))
    numbers = {
        key: _seconds(getattr(read, key), (*path, key), tell) for key in ("x509_svid_ttl", "jwt_svid_ttl", "expires_at")
    }
    if spiffe_id is None or parent_id is None or None in selectors or None in numbers.values():
        return None
    given = {key: getattr(read, key) for key in _EXTRAS} | {Extra.EXPIRES_AT: numbers["expires_at"]}
    given[Extra.ADDITIONAL_ATTRIBUTES] = any(read.additional_attributes.values())
    return GivenEntry(
        where=f"{file}: {key_of(path)}",
        spiffe_id=spiffe_id,
        parent_id=parent_id,
        selectors=frozenset(one for one in selectors if one),
        x509_ttl=_ttl(numbers["x509_svid_ttl"]),
        jwt_ttl=_ttl(numbers["jwt_svid_ttl"]),
        dns_names=tuple(read.dns_names),
        extras=frozenset(key for key, value in given.items() if value),
    )


def _id(found: Mapping[str, str], path: Path, tell: Tell) -> SpiffeID | None:
    if found.keys() != {"trust_domain", "path"}:
        tell(path, f"expected an object of trust_domain and path, found one of {_names(found)}", "")
        return None
    try:
        return SpiffeID.parse(f"spiffe://{found['trust_domain']}{found['path']}")
    except SVIDError as e:
        tell(path, str(e), "")
        return None


def _selectors(found: Sequence[Mapping[str, str]], path: Path, tell: Tell) -> Iterator[Selector | None]:
    if not found:
        tell(path, "expected at least one selector, found none", "")
        yield None
    for number, one in enumerate(found):
        try:
            if one.keys() != {"type", "value"}:
                tell((*path, number), f"expected an object of type and value, found one of {_names(one)}", "")
                yield None
            else:
                yield Selector(one["type"], one["value"])
        except SVIDError as e:
            tell((*path, number), str(e).removeprefix("selector: "), "")
            yield None


def _names(found: Mapping[str, str]) -> str:
    return ", ".join(map(shown, sorted(found)[:4])) or "nothing"


def _seconds(found: int | str, path: Path, tell: Tell) -> int | None:
    text = str(found) if isinstance(found, str) or abs(found) < 2**63 else ""
    limit = 253_402_300_799 if path[-1] == "expires_at" else _MOST_SECONDS
    if text.isascii() and text.isdecimal() and len(text) <= 12 and int(text) <= limit:  # noqa: PLR2004 - digits of the limit
        return int(text)
    tell(path, f"expected a number of seconds from 0 to {limit}, found {shown(found)}", "")
    return None


def _ttl(seconds: int | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds else None
