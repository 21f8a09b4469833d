"""What every key manager promises: in memory, on disk, and one of another package behind its guard."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from cognomen.protocol.errors import Kind, Refused
from issuer.keymanager.disk import DiskKeyManager
from issuer.keymanager.guarded import GuardedKeyManager
from issuer.keymanager.memory import MemoryKeyManager
from issuer.keymanager.port import KeyManager
from svid.keys import KeyID, KeyKind, SigningKey, hash_of
from tests.doubles.oddkeys import HandledKeys

KEY = KeyID("x509-1")


@pytest.fixture(params=["memory", "disk", "guarded"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> KeyManager:
    match request.param:
        case "memory":
            return MemoryKeyManager()
        case "disk":
            return DiskKeyManager(tmp_path / "keys")
        case _:
            return GuardedKeyManager(inner=HandledKeys(), name="handled")


def verify(key: SigningKey, signature: bytes, data: bytes) -> None:
    public_key = key.public_key
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, data, padding.PKCS1v15(), hash_of(key.kind))
    else:
        public_key.verify(signature, data, ec.ECDSA(hash_of(key.kind)))


@pytest.mark.parametrize("kind", [KeyKind.EC_P256, KeyKind.EC_P384, KeyKind.RSA_2048])
async def test_a_key_that_was_made_signs_and_is_got_again(keys: KeyManager, kind: KeyKind) -> None:
    made = await keys.generate(KEY, kind)
    assert (made.id, made.kind) == (KEY, kind)
    got = await keys.get(KEY)
    assert got.public_key == made.public_key
    verify(made, got.sign(b"data"), b"data")


async def test_a_name_that_is_taken_is_refused_and_its_key_stays(keys: KeyManager) -> None:
    made = await keys.generate(KEY, KeyKind.EC_P256)
    with pytest.raises(Refused) as refused:
        await keys.generate(KEY, KeyKind.EC_P256)
    assert refused.value.kind is Kind.EXISTS
    assert (await keys.get(KEY)).public_key == made.public_key


async def test_a_key_that_is_not_there_is_not_found(keys: KeyManager) -> None:
    with pytest.raises(Refused) as refused:
        await keys.get(KEY)
    assert refused.value.kind is Kind.NOT_FOUND


async def test_the_names_are_listed_sorted(keys: KeyManager) -> None:
    for name in ("b", "a-2", "a"):
        await keys.generate(KeyID(name), KeyKind.EC_P256)
    assert await keys.list() == ["a", "a-2", "b"]


async def test_a_deleted_key_is_gone_and_may_be_deleted_again(keys: KeyManager) -> None:
    await keys.generate(KEY, KeyKind.EC_P256)
    await keys.delete(KEY)
    await keys.delete(KEY)
    assert await keys.list() == []
    await keys.generate(KEY, KeyKind.EC_P256)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc/x", "a\0", "a\n", "A", "a.b", "-a", "x" * 64])
async def test_a_name_that_could_be_a_path_is_refused(keys: KeyManager, name: str) -> None:
    for asked in (keys.get(KeyID(name)), keys.delete(KeyID(name)), keys.generate(KeyID(name), KeyKind.EC_P256)):
        with pytest.raises(Refused) as refused:
            await asked
        assert refused.value.kind is Kind.INVALID


async def test_a_handle_does_not_show_its_private_key(keys: KeyManager) -> None:
    key = await keys.generate(KEY, KeyKind.EC_P256)
    assert "PRIVATE" not in repr(key)
    assert not any("private" in name for name in dir(key) if not name.startswith("_"))
