"""The `join_token` node attestor: the form of a token, and nothing more."""

import hashlib
import secrets

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.nodeattestor.join_token import JoinToken


async def no_challenge(question: bytes) -> bytes:
    raise AssertionError(question)


async def test_a_token_is_named_by_its_hash() -> None:
    token = secrets.token_urlsafe(32)
    proof = await JoinToken().attest(token.encode(), no_challenge)
    assert proof.token_hash == hashlib.sha256(token.encode()).hexdigest()


async def test_the_tokens_hash_stays_out_of_reprs() -> None:
    proof = await JoinToken().attest(b"a" * 43, no_challenge)
    assert proof.token_hash not in repr(proof)


@pytest.mark.parametrize("place", [0, 21, 42])
async def test_only_base64url_stands_in_a_token(place: int) -> None:
    allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for byte in range(256):
        evidence = b"a" * place + bytes([byte]) + b"a" * (42 - place)
        if byte in allowed:
            assert (await JoinToken().attest(evidence, no_challenge)).token_hash
        else:
            with pytest.raises(Refused) as refused:
                await JoinToken().attest(evidence, no_challenge)
            assert refused.value.kind is Kind.INVALID


@pytest.mark.parametrize("size", [0, 1, 42, 44, 16 * 1024])
async def test_a_token_has_43_characters(size: int) -> None:
    with pytest.raises(Refused, match=f"expected a join token of 43 base64url characters, found {size} bytes"):
        await JoinToken().attest(b"a" * size, no_challenge)


async def test_a_refusal_never_repeats_the_evidence() -> None:
    with pytest.raises(Refused) as refused:
        await JoinToken().attest(b"secret" * 8, no_challenge)
    assert "secret" not in refused.value.detail + refused.value.hint + str(refused.value.facts)
