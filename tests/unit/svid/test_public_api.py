"""What `svid` offers from its root, and what that costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import svid


@pytest.mark.parametrize("name", svid.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(svid, name).__name__ == name


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(svid.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(svid.__all__) == set(dir(svid))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'svid' has no attribute 'Nonsense'"):
        svid.Nonsense  # noqa: B018 - asking is the test


@pytest.mark.parametrize(
    "names", ["SpiffeID, TrustDomain, SVIDError", "Bundle, X509SVID, JWTSVID", "any_in, server_context"]
)
def test_values_and_tls_do_not_load_grpc(names: str) -> None:
    code = f"import sys; from svid import {names}; print(*sorted({{'grpc', 'google.protobuf'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.strip() == ""


EXTRAS = [("httpx_client", "httpx"), ("requests_session", "requests"), ("uvicorn_mtls", "uvicorn")]


@pytest.mark.parametrize(("name", "library"), EXTRAS)
def test_a_library_that_is_missing_is_named_and_nobody_is_sent_to_pypi_for_svid(name: str, library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from svid import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert f"svid.{name}: {library} is not installed; install it, or" in done.stderr
    assert "svid is not on PyPI" in done.stderr


@pytest.mark.parametrize("missing", [(), ("httpx",), ("httpx", "requests", "uvicorn")])
def test_everything_can_be_imported_at_once_whatever_is_installed(missing: tuple[str, ...]) -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\nfrom svid import *\nimport svid\n"
        "assert set(svid.__all__) == set(dir(svid)) <= set(globals())\nprint(*svid.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    left_out = set(svid.__all__) - set(done.stdout.split())
    assert left_out == {one for one in svid.__all__ for library in missing if one.startswith(f"{library}_")}
