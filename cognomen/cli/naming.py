"""What people type in place of an id: the beginning of one, a SPIFFE ID or its path. The issuer knows what it means."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from cognomen.cli.admin import Admin
from cognomen.cli.asking import is_unknown
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import MOST_MEANINGS, MOST_TEXTS, Nameable
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["full_id", "full_ids", "with_node"]


def full_ids(admin: Admin, kind: Nameable, texts: Iterable[str], *, past: bool = False) -> list[str]:
    """The ids that these texts mean. A text that means nothing stays as it is: whoever uses it says that there is no such thing.

    Args:
        past: also entries and nodes that are gone, but on record.

    Raises:
        Refused: INVALID for a text that can mean several things.
    """
    return [text if found is None else found.id for text, found in _meanings(admin, kind, texts, past=past)]


def full_id(admin: Admin, kind: Nameable, text: str, *, past: bool = False) -> str:
    """The id that a text means, as `full_ids`; nothing for an empty text."""
    return full_ids(admin, kind, [text], past=past)[0] if text else ""


def with_node(admin: Admin, text: str, *, past: bool = False) -> str:
    """The SPIFFE ID of the node that a text means by an id; every other text as it is."""
    if not text or ":" in text or text.startswith("/"):
        return text
    ((_, found),) = _meanings(admin, Nameable.NODE, [text], past=past)
    return found.spiffe_id if found is not None and found.spiffe_id else text


def _meanings(
    admin: Admin, kind: Nameable, texts: Iterable[str], *, past: bool
) -> Iterator[tuple[str, pb.Meaning | None]]:
    left = iter(texts)
    while batch := list(islice(left, MOST_TEXTS)):
        try:
            found = admin.resolve(pb.ResolveRequest(kind=kind, texts=batch, past=past))
        except Refused as e:
            if not is_unknown(e):
                raise
            yield from ((text, _of_old(admin, kind, text)) for text in batch)
            continue
        for text, each in zip(batch, found.meanings, strict=True):
            if len(each.meanings) > 1:
                raise _ambiguous(kind, text, each.meanings)
            yield text, next(iter(each.meanings), None)


def _of_old(admin: Admin, kind: Nameable, text: str) -> pb.Meaning | None:
    """What an issuer that was started before this release knows: whole ids, and SPIFFE IDs of nodes."""
    is_path = kind is Nameable.NODE and text.startswith("/")
    return pb.Meaning(id=str(admin.complete_id(text))) if is_path else None


def _ambiguous(kind: Nameable, text: str, meanings: Sequence[pb.Meaning]) -> Refused:
    shown = ", ".join(f"{one.id} {one.spiffe_id}".rstrip() for one in meanings[: MOST_MEANINGS - 1])
    more = " and more" if len(meanings) == MOST_MEANINGS else ""
    return Refused(
        Kind.INVALID,
        f"{kind}: {text!r} can mean {shown}{more}",
        hint="nothing was done: use the whole id, or more characters of it",
    )
