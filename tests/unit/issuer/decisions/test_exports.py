"""What a copy of the bundle lacks, and what it still has."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.exports import (
    MOST_EXPORTS,
    Export,
    ExportFormat,
    ExportStanding,
    check_exports,
    check_known,
    cut_off,
    made,
    named,
    standing,
    what_is_behind,
)
from issuer.decisions.operator import Operator
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW

DAY = timedelta(days=1)
SPREAD = timedelta(minutes=10)
DIGEST = "0" * 64


def row(key_id: str, state: AuthorityState, kind: AuthorityKind = AuthorityKind.JWT) -> Authority:
    return Authority(
        key_id=KeyID(key_id),
        kind=kind,
        state=state,
        not_before=NOW - DAY,
        not_after=NOW + 13 * DAY,
        published_at=NOW - DAY,
        activate_at=NOW + 5 * DAY if state is AuthorityState.NEXT else NOW - DAY,
        activated_at=None if state is AuthorityState.NEXT else NOW - DAY,
    )


OLD = replace(row("old", AuthorityState.OLD), last_not_after=NOW + timedelta(minutes=5))
ACTIVE, NEXT = row("active", AuthorityState.ACTIVE), row("next", AuthorityState.NEXT)
BUNDLE = (OLD, ACTIVE, NEXT)


def export(*key_ids: str, form: ExportFormat = ExportFormat.JWKS, name: str = "openai") -> Export:
    return Export(
        name=name, format=form, key_ids=frozenset(map(KeyID, key_ids)), digest=DIGEST, at=NOW, actor="uid:0", login=""
    )


def compared(one: Export, *authorities: Authority) -> ExportStanding:
    return standing(one, authorities, spread=SPREAD, now=NOW)


def test_a_copy_of_all_authorities_is_not_behind() -> None:
    found = compared(export("old", "active", "next"), *BUNDLE)
    assert (found.is_behind, found.breaks_at, what_is_behind(found, now=NOW)) == (False, None, "")


def test_what_a_copy_lacks_is_named_in_the_order_in_which_it_signs() -> None:
    found = compared(export("old"), *BUNDLE)
    assert (found.missing, found.breaks_at) == (["active", "next"], ACTIVE.activated_at)
    assert "it lacks active, next; the first has signed since 2025-12-31T12:00:00Z" in what_is_behind(found, now=NOW)


def test_a_copy_without_the_next_authority_breaks_when_that_signs() -> None:
    found = compared(export("old", "active"), *BUNDLE)
    assert (found.missing, found.breaks_at) == (["next"], NOW + 5 * DAY)
    assert what_is_behind(found, now=NOW) == (
        "it lacks next; the first signs from 2026-01-06T12:00:00Z: repeat the bundle export that has --name openai, as it was;"
        " if it has ended: cognomen bundle forget-export openai"
    )


def test_it_is_behind_since_the_first_change_after_it_was_made() -> None:
    made_at = replace(export("old", "active", "next"), at=NOW)
    fresh = replace(NEXT, key_id=KeyID("fresh"), published_at=NOW + DAY)
    revoked = replace(OLD, state=AuthorityState.RETIRED, tainted_at=NOW, retired_at=NOW + DAY / 2)
    assert compared(made_at, *BUNDLE).since is None
    assert compared(made_at, *BUNDLE, fresh).since == NOW + DAY
    assert compared(made_at, revoked, ACTIVE, NEXT, fresh).since == NOW + DAY / 2
    assert compared(export(), *BUNDLE).since == NOW, "what was published before cannot have been missed before"


def test_a_next_authority_signs_before_its_plan_if_the_one_that_signs_ends_before_and_never_before_the_spread_time() -> (
    None
):
    short = replace(ACTIVE, not_after=NOW + DAY)
    hands_over = short.not_after - (short.not_after - short.not_before - timedelta(seconds=30)) / 7
    assert compared(export("old", "active"), OLD, short, NEXT).breaks_at == hands_over
    fresh = replace(NEXT, published_at=NOW, activate_at=NOW)
    assert compared(export("old", "active"), OLD, ACTIVE, fresh).breaks_at == NOW + SPREAD


@pytest.mark.parametrize(
    "harmless",
    [
        replace(OLD, key_id=KeyID("x"), last_not_after=None),
        replace(OLD, key_id=KeyID("x"), last_not_after=NOW - timedelta(seconds=30)),
        replace(ACTIVE, key_id=KeyID("x"), state=AuthorityState.OLD, tainted_at=NOW, last_not_after=NOW + DAY),
        replace(NEXT, key_id=KeyID("x"), state=AuthorityState.INTENDED),
        replace(NEXT, key_id=KeyID("x"), state=AuthorityState.RETIRED),
        row("x", AuthorityState.ACTIVE, AuthorityKind.X509),
    ],
    ids=["signed nothing", "what it signed is over", "tainted", "not published", "retired", "of another kind"],
)
def test_what_signs_nothing_that_the_relying_party_would_accept_is_not_missing(harmless: Authority) -> None:
    assert not compared(export("old", "active", "next"), *BUNDLE, harmless).is_behind


def test_a_revoked_authority_in_a_copy_is_named_and_one_that_left_in_peace_is_not() -> None:
    peaceful = replace(OLD, state=AuthorityState.RETIRED)
    assert not compared(export("old", "active", "next"), peaceful, ACTIVE, NEXT).is_behind
    revoked = replace(peaceful, tainted_at=NOW)
    found = compared(export("old", "active", "next"), revoked, ACTIVE, NEXT)
    assert (found.missing, found.revoked, found.breaks_at) == ([], ["old"], None)
    assert what_is_behind(found, now=NOW).startswith("it still has old, revoked but trusted there: repeat the")
    assert not compared(export("active", "next"), revoked, ACTIVE, NEXT).is_behind


def test_an_authority_below_a_root_is_known_by_that_root() -> None:
    first, second = (
        replace(row(name, AuthorityState.ACTIVE, AuthorityKind.X509), certificate=name.encode(), roots=(b"root",))
        for name in ("first", "second")
    )
    own = replace(first, key_id=KeyID("own"), roots=(), certificate=b"own")
    for form in (ExportFormat.PEM, ExportFormat.SPIFFE):
        assert not compared(export("first", form=form), first, second).is_behind
        assert compared(export("first", form=form), first, own).missing == ["own"]
    gone = replace(first, state=AuthorityState.RETIRED, tainted_at=NOW)
    assert not compared(export("first", form=ExportFormat.PEM), gone, second).is_behind


def test_a_discovery_document_has_no_keys_and_is_never_behind() -> None:
    one = made("a", "oidc-discovery", ["active"], DIGEST, authorities=BUNDLE, actor="uid:0", now=NOW)
    assert (one.key_ids, compared(one, *BUNDLE).is_behind) == (frozenset(), False)


def test_only_relying_parties_that_accept_what_signs_now_are_cut_off() -> None:
    known = [
        export("active", name="lacks"),
        export("active", "next", name="has"),
        export("old", name="broken"),
        export(form=ExportFormat.PEM, name="other"),
        export(name="restored"),
    ]
    assert cut_off(known, BUNDLE, ACTIVE, NEXT) == ["lacks", "restored"]
    assert cut_off(known, BUNDLE, ACTIVE, ACTIVE) == ["restored"]
    check_known([], signs=NEXT.key_id)
    with pytest.raises(Refused, match="found lacks without it") as refused:
        check_known(["lacks"], signs=NEXT.key_id)
    assert refused.value.kind is Kind.CONFLICT


@pytest.mark.parametrize("name", ["", ".", "-a", "a b", "a/b", "ä", "a\n", "a" * 65, "\0", "{a}"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=r"^name: expected at most 64 of") as refused:
        made(name, "jwks", [], DIGEST, authorities=BUNDLE, actor="uid:0", now=NOW)
    assert refused.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("form", "key_ids", "digest", "said"),
    [
        ("yaml", [], DIGEST, "^format: expected one of jwks, spiffe, pem, oidc-discovery, found 'yaml'"),
        ("jwks", ["active", "other"], DIGEST, "^key_ids: expected authorities of this issuer, found 'other'"),
        ("jwks", [], "", "^digest: expected 64"),
        ("jwks", [], DIGEST + "\n", "^digest: expected 64"),
        ("jwks", [], "A" * 64, "^digest: expected 64"),
    ],
)
def test_what_no_command_of_ours_says_is_refused(form: str, key_ids: list[str], digest: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        made("openai", form, key_ids, digest, authorities=BUNDLE, actor="uid:0", now=NOW)


def test_an_export_names_who_made_it_and_is_alike_whatever_its_time_and_digest() -> None:
    operator = Operator("uid:0", login="uid:1000", comment="by hand")
    one = made("openai", "jwks", ["active"], DIGEST, authorities=BUNDLE, actor=operator, now=NOW)
    assert (one.actor, one.login, one.key_ids) == ("uid:0", "uid:1000", frozenset({KeyID("active")}))
    assert one.is_like(replace(one, at=NOW + DAY, digest="1" * 64))
    others = (replace(one, key_ids=frozenset()), replace(one, actor="uid:1"), replace(one, login=""), None)
    assert [one.is_like(other) for other in others] == [False] * 4


def test_a_name_keeps_its_format_and_names_are_limited() -> None:
    full = [export(name=f"n{number}") for number in range(MOST_EXPORTS)]
    check_exports(full, full[-1])
    check_exports(full[:-1], full[-1])
    with pytest.raises(Refused, match="expected fewer than 64, found 64"):
        check_exports(full, export(name="one-more"))
    with pytest.raises(Refused, match="n0 is an export of the format jwks, found pem"):
        check_exports(full, export(name="n0", form=ExportFormat.PEM))
    assert named(full, "n7") is full[7]
    with pytest.raises(Refused, match="no export has the name 'other'") as refused:
        named(full, "other")
    assert refused.value.kind is Kind.NOT_FOUND
