"""A source's timeout is a timedelta; for a number of seconds the error says so."""

import pytest

from svid.workloadapi.sources import JWTSource, X509Source

WORDS = r"timeout: expected a timedelta, such as timedelta\(seconds=5\), found 5"


@pytest.mark.parametrize("kind", [X509Source, JWTSource])
async def test_a_number_of_seconds_is_no_timeout(kind: type[X509Source | JWTSource]) -> None:
    with pytest.raises(TypeError, match=WORDS):
        kind("unix:///nobody/listens", timeout=5)  # type: ignore[arg-type]  # as somebody without a type checker
    with pytest.raises(TypeError, match=WORDS):
        await kind.connect("unix:///nobody/listens", timeout=5)  # type: ignore[arg-type]  # as above
