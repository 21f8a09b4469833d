"""Exports of the bundle: copies that were handed to relying parties which do not fetch the bundle, and what each copy lacks.

A relying party with a copy does not know an authority that was published later. It refuses all that this authority signs, from its first
moment on. And it trusts a revoked authority until it gets another copy. The command that made a copy says which authorities are in it;
issuer/flows/record_exports records that.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.exportnames import check_export_name
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.validity import BACKDATE
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.operator import Operator
from issuer.decisions.rotation import signs_at
from svid.keys import KeyID

__all__ = [
    "MOST_EXPORTS",
    "Export",
    "ExportFormat",
    "ExportStanding",
    "check_exports",
    "check_known",
    "cut_off",
    "had_before",
    "made",
    "named",
    "standing",
    "what_is_behind",
]

MOST_EXPORTS = 64
"""How many exports there may be: each is a label of metrics."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LIST_HINT = "list them: cognomen bundle exports"
_MOST_NAMED = 5  # exports or keys in one message


class ExportFormat(StrEnum):
    """What was exported."""

    JWKS = "jwks"
    SPIFFE = "spiffe"
    PEM = "pem"
    DISCOVERY = "oidc-discovery"


_HOLDS: Mapping[ExportFormat, frozenset[AuthorityKind]] = MappingProxyType(
    {
        ExportFormat.JWKS: frozenset({AuthorityKind.JWT}),
        ExportFormat.SPIFFE: frozenset(AuthorityKind),
        ExportFormat.PEM: frozenset({AuthorityKind.X509}),
        ExportFormat.DISCOVERY: frozenset(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A copy of the bundle that a relying party has.

    Args:
        name: what the operator calls the relying party.
        key_ids: the authorities in the copy; empty: not known, as after a restore, or the format has no keys.
        digest: SHA-256 of the copy and of where it went, as the command computes it; in hexadecimal. Empty: not known.
        at: when the command said last that this was exported.
        actor, login: who gave the command, as in the audit record.
    """

    name: str
    format: ExportFormat
    key_ids: frozenset[KeyID]
    digest: str
    at: datetime
    actor: str
    login: str = ""

    def is_like(self, other: "Export | None") -> bool:
        """Whether the other one says the same to the audit record: only its time and its digest may differ."""
        return other is not None and _said(self) == _said(other)


def _said(export: Export) -> tuple[object, ...]:
    return export.name, export.format, export.key_ids, export.actor, export.login


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportStanding:
    """An export, compared with the bundle.

    Args:
        missing: the authorities that it lacks and that sign, will sign, or signed what is still valid; first those that sign first.
        breaks_at: when the first of them signs or began to sign; None: nothing is missing.
        revoked: the revoked authorities that it has: the relying party still trusts them.
        since: since when it is behind; None: it is not.
    """

    export: Export
    missing: Sequence[KeyID]
    breaks_at: datetime | None
    revoked: Sequence[KeyID]
    since: datetime | None

    @property
    def is_behind(self) -> bool:
        """Whether the relying party needs a newer copy."""
        return bool(self.missing or self.revoked)


def made(
    name: str,
    form: str,
    key_ids: Collection[str],
    digest: str,
    *,
    authorities: Iterable[Authority],
    actor: str,
    now: datetime,
) -> Export:
    """An export that a command reports.

    Args:
        key_ids: the authorities of the bundle that was exported; those of kinds that the format does not hold are left out.

    Raises:
        Refused: INVALID for a bad name, format or digest; CONFLICT for an authority that is not ours.
    """
    check_export_name(name)
    if form not in set(ExportFormat):
        raise Refused(Kind.INVALID, f"format: expected one of {', '.join(ExportFormat)}, found {form[:80]!r}")
    if not _DIGEST.fullmatch(digest):
        raise Refused(Kind.INVALID, f"digest: expected 64 hexadecimal digits, found {digest[:80]!r}")
    kinds = {one.key_id: one.kind for one in authorities}
    if unknown := sorted(one for one in key_ids if one not in kinds):
        raise Refused(
            Kind.CONFLICT,
            f"key_ids: expected authorities of this issuer, found {unknown[0][:80]!r}",
            hint="export the bundle again",
        )
    held = _HOLDS[ExportFormat(form)]
    return Export(
        name=name,
        format=ExportFormat(form),
        key_ids=frozenset(KeyID(one) for one in key_ids if kinds[KeyID(one)] in held),
        digest=digest,
        at=now,
        actor=str(actor),
        login=actor.login if isinstance(actor, Operator) else "",
    )


def check_exports(known: Sequence[Export], export: Export) -> None:
    """Check that this export may be recorded, beside or in place of a known one.

    Raises:
        Refused: CONFLICT when the name belongs to an export of another format, or there are enough.
    """
    before = next((one for one in known if one.name == export.name), None)
    if before is not None and before.format is not export.format:
        raise Refused(
            Kind.CONFLICT,
            f"name: {export.name} is an export of the format {before.format}, found {export.format}",
            hint=f"give this one another --name; or, if that one has ended: cognomen bundle forget-export {export.name}",
        )
    if before is None:
        _check_room(known)


def _check_room(known: Sequence[Export]) -> None:
    if len(known) >= MOST_EXPORTS:
        raise Refused(
            Kind.CONFLICT,
            f"exports: expected fewer than {MOST_EXPORTS}, found {len(known)}",
            hint=f"{_LIST_HINT}; forget one that has ended: cognomen bundle forget-export {known[0].name}",
        )


def had_before(known: Sequence[Export], name: str) -> str:
    """In words, what the relying party of an export that failed has.

    Raises:
        Refused: INVALID for a bad name; CONFLICT for a new one when there are enough.
    """
    check_export_name(name)
    for one in known:
        if one.name == name:
            return f"failed; its relying party has the copy of {moment_in_words(one.at)}"
    _check_room(known)
    return "failed; its relying party has no copy yet"


def named(known: Iterable[Export], name: str) -> Export:
    """The export with that name.

    Raises:
        Refused: NOT_FOUND
    """
    for export in known:
        if export.name == name:
            return export
    raise Refused(Kind.NOT_FOUND, f"name: no export has the name {name[:80]!r}", hint=_LIST_HINT)


def standing(export: Export, authorities: Sequence[Authority], *, spread: timedelta, now: datetime) -> ExportStanding:
    """Compare an export with the bundle that these authorities make.

    Args:
        spread: how long an authority is in the bundle before it signs.
    """
    lacks = [one for one in authorities if _is_needed(one, now) and not _has(export, one, authorities)]
    keeps = [one for one in authorities if one.key_id in export.key_ids and _is_revoked(one)]
    times = {one.key_id: signs_at(one, authorities, spread=spread, now=now) for one in lacks}
    began = [*(one.published_at or export.at for one in lacks), *(one.retired_at or export.at for one in keeps)]
    return ExportStanding(
        export=export,
        missing=sorted(times, key=lambda key_id: (times[key_id], key_id)),
        breaks_at=min(times.values(), default=None),
        revoked=[one.key_id for one in keeps],
        since=max(export.at, min(began)) if began else None,
    )


def what_is_behind(found: ExportStanding, *, now: datetime) -> str:
    """In words, what an export lacks or still has, and what to do; empty: it is not behind."""
    name, said = found.export.name, []
    if found.revoked:
        said.append(f"it still has {_listed(found.revoked)}, revoked but trusted there")
    if found.breaks_at is not None:
        verb = "signs from" if found.breaks_at > now else "has signed since"
        said.append(f"it lacks {_listed(found.missing)}; the first {verb} {moment_in_words(found.breaks_at)}")
    if not said:
        return ""
    remedy = f"repeat the bundle export that has --name {name}, as it was; if it has ended: cognomen bundle forget-export {name}"
    return f"{'; '.join(said)}: {remedy}"


def cut_off(
    known: Iterable[Export], authorities: Sequence[Authority], before: Authority, signs: Authority
) -> Sequence[str]:
    """The names of the exports whose relying parties may accept what `before` signs now, and refuse what `signs` signs after it."""

    def may_accept(one: Export) -> bool:
        is_unknown = not one.key_ids  # since a restore
        return is_unknown or _has(one, before, authorities)

    return [one.name for one in known if may_accept(one) and not _has(one, signs, authorities)]


def check_known(names: Sequence[str], *, signs: KeyID) -> None:
    """Check that every export has the authority that is to sign.

    Raises:
        Refused: CONFLICT when one does not.
    """
    if names:
        raise Refused(
            Kind.CONFLICT,
            f"authority: expected every export of the bundle to have {signs}, which signs then; found {_listed(names)} without it",
            hint="export again, or forget an export that has ended (cognomen bundle exports lists them); or add --force, and"
            " their relying parties refuse what it signs until they have a new export",
        )


def _has(export: Export, authority: Authority, authorities: Iterable[Authority]) -> bool:
    """Whether it lets a relying party verify what this authority signs: by its own key, or by the roots above it."""
    if authority.kind not in _HOLDS[export.format] or authority.key_id in export.key_ids:
        return True
    if authority.kind is AuthorityKind.JWT:
        return False
    exported = (one for one in authorities if one.kind is authority.kind and one.key_id in export.key_ids)
    return {der for one in exported for der in one.anchors}.issuperset(authority.anchors)


def _is_needed(authority: Authority, now: datetime) -> bool:
    """Whether it signs, will sign, or signed what is still valid. A tainted one is not missed: what it signed is being replaced."""
    if authority.tainted_at is not None or not authority.is_published:
        return False
    is_over = authority.last_not_after is None or authority.last_not_after + BACKDATE <= now
    return not (authority.state is AuthorityState.OLD and is_over)


def _is_revoked(authority: Authority) -> bool:
    """Whether an operator took it out of the bundle. The root above one that is not itself a root stays there."""
    is_gone = authority.state is AuthorityState.RETIRED and authority.tainted_at is not None
    return is_gone and (authority.kind is AuthorityKind.JWT or authority.is_root)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (" and others" if len(names) > _MOST_NAMED else "")
