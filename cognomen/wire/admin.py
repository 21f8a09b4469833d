"""The admin protocol as JSON, for programs to read and write; the keys are the names of the fields in admin.proto and node.proto.

Decided here: how times, durations and selectors are written in it, and which keys an entry may have. What a valid entry is:
cognomen/protocol/entry and issuer/decisions/registration.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from cognomen.protocol.entry import EntryError, EntryID, RegistrationEntry
from cognomen.protocol.printable import printable
from cognomen.protocol.selector import Selector
from cognomen.wire.pb import node_pb2 as pb
from svid.encoding import JSON
from svid.errors import SpiffeIDError
from svid.spiffeid import SpiffeID

__all__ = ["document_from_message", "entry_from_document", "moment_from_text", "moment_to_text"]

_SECONDS = re.compile(r"([0-9]{1,12})s?")
_UINT64 = 2**64
_ENTRY_KEYS = frozenset({"last_used", *(field.name for field in pb.Entry.DESCRIPTOR.fields)})


def document_from_message(message: Message) -> dict[str, JSON]:
    """Write a message with every field; a time, duration or message that is absent is null.

    Shape: times as RFC 3339 with Z, durations as whole seconds with s ("3600s"), selectors as "type:value".
    """
    document: dict[str, JSON] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            document[field.name] = {str(key): str(value[key]) for key in sorted(value)}
        elif field.is_repeated:
            document[field.name] = [_plain(item) for item in value]
        elif field.message_type is not None and not message.HasField(field.name):
            document[field.name] = None
        else:
            document[field.name] = _plain(value)
    return document


def _plain(value: object) -> JSON:  # noqa: PLR0911 - one for each kind
    match value:
        case bool() | int() | str():
            return value
        case bytes():
            return value.hex()
        case Timestamp():
            return moment_to_text(value.ToDatetime(tzinfo=UTC))
        case Duration():
            return f"{value.seconds}s"
        case pb.Audiences() | pb.Callers():
            return list(value.values)
        case pb.Selector():
            return f"{value.type}:{value.value}"
        case Message():
            return document_from_message(value)
    raise TypeError(f"expected a field of the admin protocol, found {type(value).__name__}")


def entry_from_document(document: object, complete: Callable[[str], SpiffeID]) -> RegistrationEntry:
    """Read an entry; created_at and last_used are allowed, because printed entries have them, but are ignored.

    Shape: as `document_from_message` writes it; a TTL may also be a number of seconds and a selector an object of type and value, as
        SPIRE's users have them; absent keys are empty.

    Args:
        complete: makes an ID from the value of spiffe_id or parent_id.

    Raises:
        SVIDError: a value breaks a rule of entries, IDs or selectors; the message begins with the key.
    """
    if not isinstance(document, dict):
        raise EntryError(f"entry: expected an object, found {_name(document)}")
    for key in document:
        if key not in _ENTRY_KEYS:
            raise EntryError(f"{printable(key)}: expected one of {', '.join(sorted(_ENTRY_KEYS))}")
    return RegistrationEntry(
        id=EntryID(_text(document, "id")),
        spiffe_id=_spiffe_id(document, "spiffe_id", complete),
        parent_id=_spiffe_id(document, "parent_id", complete),
        selectors=frozenset(_selector(item) for item in _list(document, "selectors")),
        x509_svid_ttl=_ttl(document, "x509_svid_ttl"),
        jwt_svid_ttl=_ttl(document, "jwt_svid_ttl"),
        federates_with=tuple(complete(f"spiffe://{name}").trust_domain for name in _texts(document, "federates_with")),
        admin=_flag(document, "admin"),
        downstream=_flag(document, "downstream"),
        expires_at=_moment(document, "expires_at"),
        dns_names=tuple(_texts(document, "dns_names")),
        revision=_revision(document),
        store_svid=_flag(document, "store_svid"),
        hint=_text(document, "hint"),
        owner=_text(document, "owner"),
        labels=_labels(document),
        default=_flag(document, "default"),
        audiences=None if document.get("audiences") is None else tuple(sorted(set(_texts(document, "audiences")))),
        callers=_callers(document, complete),
        observe=_flag(document, "observe"),
    )


def moment_to_text(moment: datetime) -> str:
    """Write an aware moment in UTC: 2026-11-23T08:00:00Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment_from_text(text: str) -> datetime:
    """Read an RFC 3339 time, which has a time zone.

    Raises:
        ValueError: the text is not such a time, or in UTC it lies outside the calendar.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ValueError(f"expected a time such as 2026-11-23T08:00:00Z, found {text!r}") from e
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with a time zone such as 2026-11-23T08:00:00Z, found {text!r}")
    try:
        return moment.astimezone(UTC)
    except OverflowError as e:
        raise ValueError(f"expected a time in the years 1 to 9999 of UTC, found {text!r}") from e


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise EntryError(f"{key}: expected a string, found {_name(value)}")
    return value


def _spiffe_id(document: Mapping[str, object], key: str, complete: Callable[[str], SpiffeID]) -> SpiffeID:
    try:
        return complete(_text(document, key))
    except SpiffeIDError as e:
        raise SpiffeIDError(f"{key}: {e}", clause=e.clause) from e


def _callers(document: Mapping[str, object], complete: Callable[[str], SpiffeID]) -> tuple[SpiffeID, ...] | None:
    if document.get("callers") is None:
        return None
    try:
        return tuple(sorted({complete(text) for text in _texts(document, "callers")}, key=str))
    except SpiffeIDError as e:
        raise SpiffeIDError(f"callers: {e}", clause=e.clause) from e


def _flag(document: Mapping[str, object], key: str) -> bool:
    value = document.get(key, False)
    if not isinstance(value, bool):
        raise EntryError(f"{key}: expected true or false, found {_name(value)}")
    return value


def _revision(document: Mapping[str, object]) -> int:
    value = document.get("revision", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _UINT64:
        raise EntryError(f"revision: expected a whole number, found {_name(value)}")
    return value


def _list(document: Mapping[str, object], key: str) -> list[object]:
    value = document.get(key, [])
    if not isinstance(value, list):
        raise EntryError(f"{key}: expected an array, found {_name(value)}")
    return value


def _texts(document: Mapping[str, object], key: str) -> list[str]:
    texts = [item for item in _list(document, key) if isinstance(item, str)]
    if len(texts) != len(_list(document, key)):
        raise EntryError(f"{key}: expected an array of strings")
    return texts


def _labels(document: Mapping[str, object]) -> dict[str, str]:
    value = document.get("labels", {})
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise EntryError("labels: expected an object of strings")
    return value


def _selector(item: object) -> Selector:
    match item:
        case str():
            return Selector.parse(item)
        case {"type": str(kind), "value": str(value), **rest} if not rest:
            return Selector(kind, value)
    raise EntryError(f"selectors: expected type:value, or an object of type and value, found {_name(item)}")


def _ttl(document: Mapping[str, object], key: str) -> timedelta | None:
    match document.get(key):
        case None:
            return None
        case int(value) if not isinstance(value, bool):
            text = str(value)
        case str(text):
            pass
        case other:
            raise EntryError(f"{key}: expected seconds such as 3600 or 3600s, found {_name(other)}")
    found = _SECONDS.fullmatch(text)
    if not found:
        if text.isdecimal():
            raise EntryError(f"{key}: expected at most 999999999999 seconds, found {printable(text)!r}")
        raise EntryError(f"{key}: expected seconds such as 3600 or 3600s, found {printable(text)!r}")
    return timedelta(seconds=int(found[1]))


def _moment(document: Mapping[str, object], key: str) -> datetime | None:
    match document.get(key):
        case None:
            return None
        case str(text):
            try:
                return moment_from_text(text)
            except ValueError as e:
                raise EntryError(f"{key}: {e}") from e
        case other:
            raise EntryError(f"{key}: expected a time such as 2026-11-23T08:00:00Z, found {_name(other)}")


def _name(value: object) -> str:
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "nothing" if value is None else names.get(type(value), f"the number {value}")
