"""cognomen/cli/importsources: each field of an entry of the issuer comes into the rulebook, or the entry is left out for it."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest

from cognomen.cli.importsources import given_of
from cognomen.protocol.entry import EntryError, EntryID, RegistrationEntry
from cognomen.protocol.selector import Selector
from cognomen.rulebook.equality import differences
from cognomen.rulebook.given import Choices, Extra
from cognomen.rulebook.importing import Imported, import_entries
from cognomen.rulebook.rules import ComponentName
from cognomen.rulebook.tables import Mode
from cognomen.rulebook.writing import written
from svid.spiffeid import SpiffeID, TrustDomain

DOMAIN = TrustDomain("example.org")
_AT = datetime(2026, 12, 1, tzinfo=UTC)
_DEFAULT_OWNER = "nobody@example.org"


def _id(path: str) -> SpiffeID:
    return SpiffeID(trust_domain=DOMAIN, path=path)


def _entry(name: str, uid: int, **more: object) -> RegistrationEntry:
    one = RegistrationEntry(
        spiffe_id=_id(f"/agent/{name}"),
        parent_id=_id("/cognomen/node/join_token/1"),
        selectors=frozenset({Selector("unix", f"uid:{uid}")}),
    )
    return replace(one, **more)  # type: ignore[arg-type]  # the test gives fields of their types


def _imported(*entries: RegistrationEntry, drops: frozenset[Extra] = frozenset()) -> Imported:
    choices = Choices(owner=_DEFAULT_OWNER, purpose="p", drops=drops)
    result = import_entries(list(map(given_of, entries)), DOMAIN, choices)
    assert list(differences(written(result.rulebook), result.placed, DOMAIN)) == []
    return result


# What a field can have, for every field of an entry; a new one must be decided here.
CARRIED = {
    "spiffe_id": _id("/agent/a/other"),
    "parent_id": _id("/cognomen/node/join_token/2"),
    "selectors": frozenset({Selector("unix", "uid:7")}),
    "x509_svid_ttl": timedelta(minutes=7),
    "jwt_svid_ttl": timedelta(minutes=7),
    "dns_names": ("a.example.org",),
    "owner": "ann@example.org",
    "labels": {"tier": "2"},
    "audiences": ("https://a.example.org",),
    "callers": (_id("/agent/z/caller"),),
    "observe": True,
}
LEFT_OUT = {"hint": "x", "default": True, "expires_at": _AT}
REFUSED = {"federates_with": (TrustDomain("other.example"),), "admin": True, "downstream": True, "store_svid": True}
NOTED_BY_THE_ISSUER = {"id": EntryID("other"), "revision": 7, "created_at": _AT}

_CALLER = _entry("z/caller", 9)


def test_every_field_of_an_entry_is_decided() -> None:
    decided = [*CARRIED, *LEFT_OUT, *REFUSED, *NOTED_BY_THE_ISSUER]
    assert sorted(decided) == sorted(one.name for one in fields(RegistrationEntry))


@pytest.mark.parametrize("field", CARRIED)
def test_a_field_that_a_rulebook_can_say_is_in_it(field: str) -> None:
    before = _imported(_CALLER, _entry("a/b", 1))
    after = _imported(_CALLER, _entry("a/b", 1, **{field: CARRIED[field]}))
    assert after.left_out == []
    assert written(after.rulebook) != written(before.rulebook)


@pytest.mark.parametrize("field", LEFT_OUT)
def test_a_field_that_no_rulebook_can_say_leaves_the_entry_out(field: str) -> None:
    found = _entry("a/b", 1, **{field: LEFT_OUT[field]})
    (told,) = _imported(found).left_out
    assert (told.reason, told.mend) == (
        f"a rulebook has no word for its {field}",
        f"if it may lose that: --drop {field}",
    )
    assert _imported(found, drops=frozenset({Extra(field)})).left_out == []


@pytest.mark.parametrize("field", REFUSED)
def test_a_field_that_does_not_exist_yet_is_in_no_entry(field: str) -> None:
    with pytest.raises(EntryError, match=f"^{field}: "):
        _entry("a/b", 1, **{field: REFUSED[field]})


@pytest.mark.parametrize("field", NOTED_BY_THE_ISSUER)
def test_what_the_issuer_notes_about_an_entry_changes_nothing(field: str) -> None:
    found = _imported(_entry("a/b", 1, **{field: NOTED_BY_THE_ISSUER[field]}))
    assert written(found.rulebook) == written(_imported(_entry("a/b", 1)).rulebook)


def test_an_entry_that_only_observes_is_a_component_that_only_observes() -> None:
    component = _imported(_entry("a/b", 1, observe=True)).rulebook.agents["a"].components["b"]
    assert component.mode is Mode.OBSERVE


def test_entries_of_one_component_that_differ_in_observing_are_left_out() -> None:
    left_out = _imported(_entry("a/b", 1), _entry("a/b", 2, observe=True)).left_out
    assert [one.reason for one in left_out] == 2 * [
        "the entries of /agent/a/b differ in observe, and a component has one"
    ]


@pytest.mark.parametrize("audiences", [None, (str(_id("/agent/a/b")),)])
def test_a_caller_that_is_imported_may_call(audiences: tuple[str, ...] | None) -> None:
    found = _imported(_entry("z/caller", 9, audiences=audiences), _entry("a/b", 1, callers=(_id("/agent/z/caller"),)))
    assert found.left_out == []
    assert found.rulebook.agents["z"].components["caller"].may_call == (ComponentName("a", "b"),)


def test_callers_that_are_declared_to_be_none_stay_none() -> None:
    found = _imported(_CALLER, _entry("a/b", 1, callers=()))
    assert found.left_out == []
    assert found.rulebook.agents["z"].components["caller"].may_call == ()


@pytest.mark.parametrize(
    ("audiences", "callers", "reason"),
    [
        (None, ("/svc/x",), "its caller spiffe://example.org/svc/x is no other component of this rulebook"),
        (None, ("/agent/a/b",), "its caller spiffe://example.org/agent/a/b is no other component of this rulebook"),
        (
            (),
            ("/agent/a/caller",),
            "its caller spiffe://example.org/agent/a/caller gets no JWT-SVIDs for it, and by may_call it would",
        ),
    ],
)
def test_callers_that_no_rulebook_can_say_leave_the_entry_out(
    audiences: tuple[str, ...] | None, callers: tuple[str, ...], reason: str
) -> None:
    entries = (
        _entry("a/caller", 9, audiences=audiences),
        _entry("a/b", 1, callers=tuple(map(_id, callers))),
    )
    (told,) = _imported(*entries).left_out
    assert (told.what, told.reason, told.mend) == (
        "/agent/a/b",
        reason,
        "if it may lose its callers: --drop callers",
    )
    assert _imported(*entries, drops=frozenset({Extra.CALLERS})).left_out == []


def test_nobody_becomes_a_caller_who_was_not_declared() -> None:
    found = _imported(
        _entry("a/caller", 9, audiences=(str(_id("/agent/a/b")),)), _entry("a/b", 1, callers=()), _entry("a/c", 2)
    )
    assert {one.what: one.reason for one in found.left_out} == {
        "/agent/a/b": "spiffe://example.org/agent/a/caller gets JWT-SVIDs for it and is not among its callers, "
        "and by may_call it would be",
        "/agent/a/caller": "its audience spiffe://example.org/agent/a/b is no component of this rulebook",
    }
