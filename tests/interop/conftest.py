"""Other people's programs find what is on loopback, whatever this environment says of proxies."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def loopback_needs_no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "localhost,127.0.0.1")
        yield
