"""What people type in place of an id: the beginning of one, a SPIFFE ID or its path. The issuer knows what it means."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from cognomen.cli.admin import Admin
from cognomen.cli.asking import is_unknown
from cognomen.cli.cells import View
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import MOST_MEANINGS, MOST_TEXTS, Nameable
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["full_id", "full_ids", "known_id", "unknown", "view_of", "with_node"]

_UNKNOWN = {
    Nameable.NODE: (
        "no node has the id, SPIFFE ID or name {text!r}",
        "list the nodes: cognomen node list; of one that is gone, only the id and the SPIFFE ID are known",
    ),
    Nameable.ENTRY: (
        "no entry has the id or SPIFFE ID {text!r}, and no deleted one had it",
        "list the entries: cognomen entry list; for one that has another SPIFFE ID now: cognomen audit list --subject /PATH -o wide",
    ),
    Nameable.CREDENTIAL: (
        "none with the serial or jti {text!r} was signed",
        "list them: cognomen svid list",
    ),
    Nameable.AUTHORITY: ("none has the id {text!r}", "list them: cognomen authority list"),
}


def full_ids(admin: Admin, kind: Nameable, texts: Iterable[str], *, past: bool = False) -> list[str]:
    """The ids that these texts mean. A text that means nothing stays as it is: whoever uses it says that there is no such thing.

    Args:
        past: also entries and nodes that are gone, but on record.

    Raises:
        Refused: INVALID for a text that can mean several things; NOT_FOUND for the path of an entry without its slash.
    """
    found = list(_meanings(admin, kind, texts, past=past))
    for text, one in found:
        if one is None and kind is Nameable.ENTRY and (hint := _hint_of_path(admin, text)):
            raise unknown(kind, text, hint)
    return [text if one is None else one.id for text, one in found]


def full_id(admin: Admin, kind: Nameable, text: str, *, past: bool = False) -> str:
    """The id that a text means, as `full_ids`; nothing for an empty text."""
    return full_ids(admin, kind, [text], past=past)[0] if text else ""


def known_id(admin: Admin, kind: Nameable, text: str, *, past: bool = False) -> str:
    """The id that a text means, as `full_id`, of something that there is.

    Raises:
        Refused: NOT_FOUND for a text that means nothing; INVALID for one that can mean several things.
    """
    return _known(admin, kind, text, past=past).id if text else ""


def with_node(admin: Admin, text: str, *, past: bool = False) -> str:
    """The SPIFFE ID of the node that a text means by an id or a name; a SPIFFE ID, a path or an actor with a colon as it is.

    Raises:
        Refused: as `known_id`.
    """
    if not text or ":" in text or text.startswith("/"):
        return text
    return _known(admin, Nameable.NODE, text, past=past).spiffe_id or text


def view_of(admin: Admin, output: str, holders: Iterable[str]) -> View:
    """How to show a table whose cells name these parents or actors: only SPIFFE IDs of nodes that there are, or were, become short ids."""
    view = admin.view(output)
    if not view.trust_domain:
        return view
    begin = f"spiffe://{view.trust_domain}/cognomen/node/"
    left, nodes = iter({one for one in holders if one.startswith(begin)}), set[str]()
    while batch := list(islice(left, MOST_TEXTS)):
        try:
            found = admin.resolve(pb.ResolveRequest(kind=Nameable.NODE, texts=batch, past=True))
        except Refused as e:
            if not is_unknown(e):
                raise
            return view
        nodes.update(one.spiffe_id for each in found.meanings for one in each.meanings)
    return replace(view, nodes=frozenset(nodes))


def unknown(kind: Nameable, text: str, better_hint: str = "") -> Refused:
    """The refusal of a text that means nothing."""
    detail, hint = _UNKNOWN[kind]
    if better_hint:
        hint = better_hint
    elif "/" in text:
        hint = hint.replace("/PATH", shlex.quote(text))
    return Refused(Kind.NOT_FOUND, f"{kind}: {detail.format(text=text)}", hint=hint)


def _known(admin: Admin, kind: Nameable, text: str, *, past: bool) -> pb.Meaning:
    ((_, found),) = _meanings(admin, kind, [text], past=past)
    if found is None:
        raise unknown(kind, text, _hint_of_path(admin, text))
    return found


def _hint_of_path(admin: Admin, text: str) -> str:
    """The path that somebody meant who left out the slash, if there is an entry or a node group with it; else nothing."""
    if "/" in text or ":" in text:
        return ""
    try:
        found = admin.resolve(pb.ResolveRequest(kind=Nameable.ENTRY, texts=[f"/{text}"])).meanings
    except Refused as e:
        if not is_unknown(e):
            raise
        return ""
    return f"did you mean /{text}?" if any(each.meanings for each in found) else ""


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


def _of_old(admin: Admin, kind: Nameable, text: str) -> pb.Meaning:
    """What an issuer that was started before this release knows: whole ids, and SPIFFE IDs of nodes."""
    is_path = kind is Nameable.NODE and text.startswith("/")
    return pb.Meaning(id=str(admin.complete_id(text)) if is_path else text)


def _ambiguous(kind: Nameable, text: str, meanings: Sequence[pb.Meaning]) -> Refused:
    shown = ", ".join(f"{one.id} {one.spiffe_id}".rstrip() for one in meanings[: MOST_MEANINGS - 1])
    more = " and more" if len(meanings) == MOST_MEANINGS else ""
    return Refused(
        Kind.INVALID,
        f"{kind}: {text!r} can mean {shown}{more}",
        hint="nothing was done: use the whole id, or more characters of it",
    )
