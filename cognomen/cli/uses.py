"""What commands show of uses: which processes were given SVIDs, as the attestors of their nodes reported it."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import NamedTuple, TypeAlias

import click
from google.protobuf.timestamp_pb2 import Timestamp

from cognomen.cli.admin import Admin, pages
from cognomen.cli.output import Columns, View, print_table, warn
from cognomen.cli.plainly import path_in_words
from cognomen.wire.admin import document_from_message, moment_to_text
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from svid.encoding import JSON

__all__ = [
    "FoundUses",
    "last_used",
    "print_uses",
    "silent_nodes",
    "some",
    "uses_of",
    "warn_of_silence",
    "warn_of_start",
]

_Life: TypeAlias = tuple[datetime, datetime]
_Ranked: TypeAlias = tuple[int, int, int, node_pb2.Use]

_PAGE = 1000
_MOST = 1000  # that are shown: nodes report what they like
_MOST_NAMED = 10  # in a warning
_SLACK = timedelta(seconds=30)  # a node may know the issuer's time no better
_COLUMNS = Columns(
    table=("uid", "pid", "executable", "given", "first_at", "last_at", "node_id", "entry_id"),
    wide=(
        *("uid", "account", "gid", "pid", "started", "executable", "processes", "given"),
        *("first_at", "last_at", "node_id", "entry_id"),
    ),
)


class FoundUses(NamedTuple):
    """Processes that used identities, last used first.

    Args:
        more: how many others there are, which used them last before these.
        silent: nodes that did not report all uses in the time that was asked for.
    """

    uses: Sequence[dict[str, JSON]]
    more: int
    silent: Sequence[pb.SilentNode] = ()

    def as_json(self) -> dict[str, JSON]:
        """What the JSON of a command says of them."""
        silent = [document_from_message(one) for one in self.silent]
        return {"uses": [*self.uses], "uses_more": self.more, "not_reporting": silent}


def uses_of(admin: Admin, credentials: Sequence[pb.Credential], *, until: datetime | None = None) -> FoundUses:
    """The processes that used the entries of these credentials on their nodes while they lived; the last thousand.

    It warns if it cannot know all of them.

    Args:
        until: leave out those whose first use was later.
    """
    lives: dict[tuple[str, str], list[_Life]] = {}
    for one in credentials:
        if one.entry_id:
            lives.setdefault((one.entry_id, one.node_id), []).append(_life(one, until))
    newest: list[_Ranked] = []  # a heap: of what nodes report, no more than we show is held in memory
    count = 0
    entry_ids, all_lives = sorted({entry_id for entry_id, _ in lives}), [*chain.from_iterable(lives.values())]
    for use in _asked(admin, entry_ids, all_lives):
        if any(_overlaps(use, life) for life in lives.get((use.entry_id, use.node_id), ())):
            count += 1
            ranked = (use.last_at.ToNanoseconds(), use.first_at.ToNanoseconds(), -count, use)
            (heapq.heappush if count <= _MOST else heapq.heappushpop)(newest, ranked)
    newest.sort(reverse=True)
    silent = silent_nodes(_silent_of(admin, sorted({node_id for _, node_id in lives}), all_lives))
    warn_of_silence(silent, "uses may be missing")
    return FoundUses([document_from_message(use) for *_, use in newest], more=count - len(newest), silent=silent)


def print_uses(found: FoundUses, view: View) -> None:
    """Print them as a table, below what was printed before."""
    uses, more, _ = found
    click.echo()
    if not uses:
        click.echo("no use was reported")
        return
    print_table(_COLUMNS, list(map(_shown, uses)), view)
    if more:
        click.echo(f"and {more:,} more, which were used earlier", err=True)


def last_used(page: pb.ListEntriesResponse, entry_id: str) -> str | None:
    """When an entry on a page was last used; None: no use was reported."""
    if entry_id not in page.last_used:
        return None
    return moment_to_text(page.last_used[entry_id].ToDatetime(tzinfo=UTC))


def warn_of_start(uses_since: Timestamp, since: datetime) -> None:
    """Warn if uses were not recorded yet at that moment."""
    began = uses_since.ToDatetime(tzinfo=UTC)
    if began > since:
        warn(
            f"uses are recorded since {moment_to_text(began.replace(microsecond=0))}; what came before may be incomplete"
        )


def silent_nodes(messages: Iterable[pb.SilentNode]) -> list[pb.SilentNode]:
    """The nodes that pages say did not report all uses: each once, sorted by name."""
    return sorted({one.id: one for one in messages}.values(), key=lambda one: one.name)


def warn_of_silence(silent: Sequence[pb.SilentNode], what: str) -> None:
    """Warn of what is not known because these nodes did not report all uses; if there are none, say nothing."""
    if silent:
        named = some(f"{one.name} ({_reported(one)})" for one in silent)
        warn(f"{what}; nodes that did not report all uses in that time: {named}")


def some(texts: Iterable[str]) -> str:
    """The first of these texts, and how many more there are."""
    every = list(texts)
    more = f", and {len(every) - _MOST_NAMED:,} more" if len(every) > _MOST_NAMED else ""
    return ", ".join(every[:_MOST_NAMED]) + more


def _reported(node: pb.SilentNode) -> str:
    """Of which time it reported them."""
    if not node.HasField("uses_since"):
        return "none"
    until = f" until {_to_second(node.uses_until)}" if node.HasField("uses_until") else ""
    return f"only from {_to_second(node.uses_since)}{until}"


def _to_second(moment: Timestamp) -> str:
    return moment_to_text(moment.ToDatetime(tzinfo=UTC).replace(microsecond=0))


def _asked(admin: Admin, entry_ids: Sequence[str], lives: Sequence[_Life]) -> Iterator[node_pb2.Use]:
    """Every use of these entries in the time of these lives."""
    for first in range(0, len(entry_ids), _PAGE):
        request = _request(lives, page_size=_PAGE, entry_ids=entry_ids[first : first + _PAGE])
        for number, page in enumerate(pages(admin.list_uses, request, every=True)):
            if first == number == 0:
                warn_of_start(page.uses_since, min(begin for begin, _ in lives))
            yield from page.uses


def _silent_of(admin: Admin, node_ids: Sequence[str], lives: Sequence[_Life]) -> Iterator[pb.SilentNode]:
    """Those of these nodes that did not report all uses in the time of these lives."""
    for first in range(0, len(node_ids), _PAGE):
        request = _request(lives, page_size=1, node_ids=node_ids[first : first + _PAGE])
        yield from admin.list_uses(request).not_reporting


def _request(
    lives: Sequence[_Life], *, page_size: int, entry_ids: Sequence[str] = (), node_ids: Sequence[str] = ()
) -> pb.ListUsesRequest:
    """Ask for the time of these lives."""
    request = pb.ListUsesRequest(page_size=page_size, entry_ids=entry_ids, node_ids=node_ids)
    request.since.FromDatetime(min(begin for begin, _ in lives) - _SLACK)
    request.until.FromDatetime(max(end for _, end in lives) + _SLACK)
    return request


def _life(credential: pb.Credential, until: datetime | None) -> _Life:
    end = credential.ended_at if credential.HasField("ended_at") else credential.not_after
    ends_at = end.ToDatetime(tzinfo=UTC)
    return credential.issued_at.ToDatetime(tzinfo=UTC), ends_at if until is None else min(ends_at, until)


def _overlaps(use: node_pb2.Use, life: _Life) -> bool:
    begin, end = life
    return use.first_at.ToDatetime(tzinfo=UTC) <= end + _SLACK and use.last_at.ToDatetime(tzinfo=UTC) >= begin - _SLACK


def _shown(use: dict[str, JSON]) -> dict[str, JSON]:
    """The same use in words."""
    kinds = [name for key, name in (("x509", "X.509"), ("jwt", "JWT")) if use[key]]
    many = f"{use['processes']} processes"
    return {
        **use,
        "pid": use["pid"] or many,
        "executable": path_in_words(str(use["executable"])) or "unknown",  # a node says what it likes
        "given": ", ".join(kinds),
    }
