"""issuer/decisions/endings: what ends is summed up by identity, and bounded."""

from datetime import timedelta

from issuer.decisions.endings import MOST_AUDIENCES, MOST_IDENTITIES, Alike, Ending, Endings, endings_of
from issuer.decisions.ledger import CredentialKind
from tests.doubles.issuer_values import NOW, an_entry

HOUR = timedelta(hours=1)


def alike(path: str, *audiences: str, kind: CredentialKind = CredentialKind.JWT, **fields: object) -> Alike:
    given: dict[str, object] = {"count": 1, "is_later": False, "ends_at": NOW, **fields}
    return Alike(spiffe_id=an_entry(path).spiffe_id, kind=kind, audiences=audiences, **given)  # type: ignore[arg-type]  # the tests' own


def test_nothing_ends() -> None:
    assert endings_of([]) == Endings(identities=[])


def test_credentials_of_one_identity_are_counted_by_kind_with_all_their_audiences() -> None:
    web = an_entry("/web").spiffe_id
    found = endings_of(
        [
            alike("/web", "b", count=2, ends_at=NOW + HOUR),
            alike("/web", "a", "b", is_later=True),
            alike("/web", kind=CredentialKind.X509, count=3),
            alike("/db", kind=CredentialKind.X509),
        ]
    )
    assert [one.spiffe_id.path for one in found.identities] == ["/db", "/web"]
    assert found.identities[1] == Ending(
        spiffe_id=web, x509=3, jwt=3, later=1, audiences=("a", "b"), more_audiences=0, ends_at=NOW + HOUR
    )


def test_identities_and_audiences_are_bounded_and_the_others_are_counted() -> None:
    found = endings_of(alike(f"/c{number}") for number in range(MOST_IDENTITIES + 3))
    assert (len(found.identities), found.more) == (MOST_IDENTITIES, 3)
    (one,) = endings_of([alike("/web", *(f"{number:03}" for number in range(MOST_AUDIENCES + 2)))]).identities
    assert (len(one.audiences), one.more_audiences) == (MOST_AUDIENCES, 2)
