"""How values are stored in columns: times as microseconds since 1970, IDs and selectors as texts, collections as JSON."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from cognomen.protocol.selector import Selector
from svid import encoding
from svid.spiffeid import SpiffeID

__all__ = [
    "MAX_NUMBER",
    "certificates_from_der",
    "from_micros",
    "map_from_json",
    "map_to_json",
    "optional_micros",
    "optional_moment",
    "rows_to_json",
    "selectors_from_json",
    "selectors_to_json",
    "spiffe_id",
    "texts_from_json",
    "texts_to_json",
    "to_micros",
]

MAX_NUMBER = 2**63 - 1
"""The largest number of a row."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = msgspec.json.Encoder().encode
_decode_texts = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_map = msgspec.json.Decoder(dict[str, str]).decode
_CACHED = 4096  # parents and selectors recur from row to row


def to_micros(moment: datetime) -> int:
    """Encode a time."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Decode a time."""
    return _EPOCH + timedelta(microseconds=micros)


def optional_micros(moment: datetime | None) -> int | None:
    """Encode a time that may be absent."""
    return None if moment is None else to_micros(moment)


def optional_moment(micros: int | None) -> datetime | None:
    """Decode a time that may be absent."""
    return None if micros is None else from_micros(micros)


def texts_to_json(texts: Iterable[str]) -> str:
    """Encode texts in their order."""
    return _encode(list(texts)).decode()


def texts_from_json(document: str) -> tuple[str, ...]:
    """Decode texts."""
    return _decode_texts(document)


def rows_to_json(rows: Iterable[tuple[str | int | None, ...]]) -> str:
    """Encode rows, which one statement then takes apart."""
    return _encode(list(rows)).decode()


def map_to_json(mapping: Mapping[str, str]) -> str:
    """Encode a mapping."""
    return _encode(dict(mapping)).decode()


def map_from_json(document: str) -> dict[str, str]:
    """Decode a mapping."""
    return _decode_map(document)


def certificates_from_der(der: bytes) -> tuple[bytes, ...]:
    """Split certificates stored back to back in DER; they were checked when they were written."""
    return tuple(one.public_bytes(Encoding.DER) for one in encoding.certificates_from_der(der))


def selectors_to_json(selectors: Iterable[Selector]) -> str:
    """Encode selectors, sorted."""
    return texts_to_json(sorted(map(str, selectors)))


def selectors_from_json(document: str) -> frozenset[Selector]:
    """Decode selectors."""
    return frozenset(map(_selector, _decode_texts(document)))


@lru_cache(maxsize=_CACHED)
def _selector(text: str) -> Selector:
    return Selector.parse(text)


@lru_cache(maxsize=_CACHED)
def spiffe_id(text: str) -> SpiffeID:
    """Decode a SPIFFE ID."""
    return SpiffeID.parse(text)
