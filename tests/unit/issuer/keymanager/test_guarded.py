"""Whatever the code of a key manager does, its callers get a key or a refusal that names it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from cognomen.protocol.errors import Kind, Refused
from issuer.keymanager.guarded import GuardedKeyManager
from issuer.keymanager.memory import MemoryKeyManager
from issuer.keymanager.port import KeyManager
from svid.keys import KeyID, KeyKind, LocalSigningKey, SigningKey
from tests.doubles.oddkeys import FailingKeys, Handle, HandledKeys, SilentKeys

KEY = KeyID("x509-1")
CALLS: list[Callable[[KeyManager], Awaitable[object]]] = [
    lambda keys: keys.generate(KEY, KeyKind.EC_P256),
    lambda keys: keys.get(KEY),
    lambda keys: keys.list(),
    lambda keys: keys.delete(KEY),
]
each_call = pytest.mark.parametrize("call", CALLS, ids=["generate", "get", "list", "delete"])


def guarded(inner: KeyManager, *, seconds: float = 20) -> GuardedKeyManager:
    return GuardedKeyManager(inner=inner, name="vault", seconds=seconds)


@each_call
@pytest.mark.parametrize(
    "raised", [KeyError("secret"), SystemExit("secret"), asyncio.CancelledError(), TimeoutError()], ids=repr
)
async def test_what_it_raises_is_a_refusal_that_names_it(
    call: Callable[[KeyManager], Awaitable[object]], raised: BaseException
) -> None:
    with capture_logs() as logs, pytest.raises(Refused) as refused:
        await call(guarded(FailingKeys(raised)))
    assert refused.value.kind is Kind.UNAVAILABLE
    assert refused.value.detail.startswith("key manager vault failed: ")
    assert "secret" not in refused.value.detail
    assert [(line["event"], line["plugin"]) for line in logs] == [("plugin failed", "key manager vault")]


@each_call
async def test_its_silence_ends_and_the_log_shows_where_it_waited(
    call: Callable[[KeyManager], Awaitable[object]],
) -> None:
    with capture_logs() as logs, pytest.raises(Refused) as refused:
        await call(guarded(SilentKeys(), seconds=0))
    assert (refused.value.kind, refused.value.detail) == (
        Kind.UNAVAILABLE,
        "key manager vault: no answer within 0 s",
    )
    assert [(line["event"], line["plugin"], line["exc_info"]) for line in logs] == [
        ("plugin gave no answer", "key manager vault", True)
    ]


@each_call
async def test_whoever_waits_for_it_can_be_ended(call: Callable[[KeyManager], Awaitable[object]]) -> None:
    async def wait() -> None:
        await call(guarded(SilentKeys()))

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_its_own_refusals_pass() -> None:
    with pytest.raises(Refused) as refused:
        await guarded(HandledKeys()).get(KEY)
    assert refused.value.kind is Kind.NOT_FOUND


async def test_a_key_in_memory_is_handed_out_as_it_is() -> None:
    assert type(await guarded(MemoryKeyManager()).generate(KEY, KeyKind.EC_P256)) is LocalSigningKey


@pytest.mark.parametrize("is_in_thread", [False, True], ids=["on the loop", "in a thread"])
@pytest.mark.parametrize("raised", [KeyError("secret"), SystemExit("secret"), asyncio.CancelledError()], ids=repr)
async def test_a_key_that_fails_to_sign_names_its_key_manager(raised: BaseException, *, is_in_thread: bool) -> None:
    key = await guarded(HandledKeys(raises=raised)).generate(KEY, KeyKind.EC_P256)
    with pytest.raises(Refused) as refused:
        _ = await asyncio.to_thread(key.sign, b"data") if is_in_thread else key.sign(b"data")
    assert refused.value.kind is Kind.UNAVAILABLE
    assert refused.value.detail.startswith("key manager vault failed: ")


@pytest.mark.parametrize("signs", ["text", 7])
async def test_a_signature_that_is_not_bytes_is_a_failure(signs: object) -> None:
    key = await guarded(HandledKeys(signs=signs)).generate(KEY, KeyKind.EC_P256)
    with pytest.raises(Refused, match="key manager vault failed: TypeError"):
        key.sign(b"data")


class Gives(MemoryKeyManager):
    """Returns that."""

    def __init__(self, given: object) -> None:
        super().__init__()
        self._given = given

    async def get(self, key_id: KeyID) -> SigningKey:
        del key_id
        return self._given  # type: ignore[return-value]  # as code without types may


async def test_what_is_not_the_key_that_was_asked_for_is_a_failure() -> None:
    other = await MemoryKeyManager().generate(KeyID("other"), KeyKind.EC_P256)
    for given in (None, b"key", Handle(other), other):
        with pytest.raises(Refused, match="key manager vault failed: "):
            await guarded(Gives(given)).get(KEY)
