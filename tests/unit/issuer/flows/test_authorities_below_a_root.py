"""Authorities that an authority above certified: their whole life, and what a command about one of them can promise."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions import authority
from issuer.decisions.authority import AuthorityKind, AuthorityState
from issuer.decisions.interventions import check_revocation
from issuer.decisions.profile import CADraft
from issuer.upstream.port import SignedCA
from svid.keys import SigningKey
from tests.doubles.agingissuer import aging
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, x509_authority
from tests.doubles.upstream import WithIntermediate

DAY = 24 * 3600


async def test_they_follow_each_other_and_are_retired_while_the_bundle_holds_their_root_alone() -> None:
    clock, upstream = FakeClock(), WithIntermediate()
    async with aging(clock, upstream) as issuer:
        signed = set()
        for _ in range(30):
            clock.advance(DAY / 2)
            await issuer.comes_back()
            assert (await issuer.bundle()).x509_authorities == (upstream.root,)
            rows = [row for row in await issuer.rows() if row.kind is AuthorityKind.X509]
            signed |= {row.key_id for row in rows if row.state is AuthorityState.ACTIVE}
        assert len(signed) == 3
        assert AuthorityState.RETIRED in {row.state for row in rows}
        await issuer.restart_after(timedelta(hours=1))
        await issuer.comes_back()


class Failing(WithIntermediate):
    """Fails for as long as a test wants it to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: BaseException | None = None
        self.drafts: list[CADraft] = []

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        self.drafts.append(draft)
        if self.fails is not None:
            raise self.fails
        return await super().sign_ca(draft, key)


@pytest.mark.parametrize("fails", [ConnectionError("secret"), SystemExit(1), Refused(Kind.UNAVAILABLE, "busy")])
async def test_however_often_one_above_fails_one_row_is_on_record_for_each_key(fails: BaseException) -> None:
    clock, upstream = FakeClock(), Failing()
    async with aging(clock, upstream) as issuer:
        before = (await issuer.audit()).count('"authority issued"')
        upstream.fails = fails
        clock.advance(6 * DAY + 60)  # the next one signs, and one more is wanted
        upstream.drafts.clear()
        for _ in range(5):
            await issuer.go_on(60)
        asked = [draft.serial for draft in upstream.drafts]
        assert len(asked) > 20
        assert len(set(asked)) == 1
        assert (await issuer.audit()).count('"authority issued"') == before + 1
        (trouble,) = [one for one in issuer.troubles.all() if one.what == "authority rotation"]
        assert "secret" not in trouble.reason
        upstream.fails = None
        await issuer.comes_back()
        assert (await issuer.audit()).count('"authority issued"') == before + 1


async def test_a_tainted_one_is_named_as_its_svids_name_it() -> None:
    below = await x509_authority(upstream=WithIntermediate())
    (found,) = authority.tainted_ids([authority.tainted(authority.replaced(below.authority), change=1, now=NOW)])
    assert bytes.fromhex(found) in below.certificate.public_bytes(Encoding.DER)


async def test_one_whose_root_stays_in_the_bundle_is_revoked_by_force_alone() -> None:
    upstream = WithIntermediate()
    one, other = [
        authority.tainted(
            authority.replaced((await x509_authority(key_id=key_id, upstream=upstream)).authority), change=1, now=NOW
        )
        for key_id in ("x509-1", "x509-2")
    ]
    with pytest.raises(Refused, match="stays in the bundle") as refused:
        check_revocation(one, [one, other], unreplaced=0, at_once=False)
    assert refused.value.kind is Kind.CONFLICT
    check_revocation(one, [one, other], unreplaced=0, at_once=True)


async def test_one_with_a_root_of_its_own_is_revoked_like_any_other() -> None:
    one, other = [
        authority.tainted(
            authority.replaced((await x509_authority(key_id=key_id, upstream=WithIntermediate())).authority),
            change=1,
            now=NOW,
        )
        for key_id in ("x509-1", "x509-2")
    ]
    check_revocation(one, [one, other], unreplaced=0, at_once=False)
