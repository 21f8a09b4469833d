"""The PyPI package `spiffe`, unchanged and in a process of its own, against `cognomen dev`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import Dev

CLIENT = """
import json
from spiffe import JwtSource, WorkloadApiClient, X509Source

with X509Source() as source:
    svid = source.get_x509_context().default_svid
    bundle = source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    found = {"x509": str(svid.spiffe_id), "authorities": len(bundle.x509_authorities)}
with JwtSource() as source:
    token = source.fetch_svid(audience={"db"}).token
    found["jwt_bundle"] = len(source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain).jwt_authorities)
with WorkloadApiClient() as client:
    found["validated"] = str(client.validate_jwt_svid(token, audience="db").spiffe_id)
    try:
        client.validate_jwt_svid(token, audience="another")
    except Exception as e:
        found["wrong_audience"] = type(e).__name__
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("d")) as running:
        yield running


def test_the_stock_python_client_gets_and_validates_its_identities(dev: Dev) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT], env=dev.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["x509"] == found["validated"] == "spiffe://example.org/dev/self"
    assert found["authorities"] == 2, "the active authority and the next one"
    assert found["jwt_bundle"] == 2
    assert "wrong_audience" in found


def test_openssl_verifies_what_fetch_writes(dev: Dev, tmp_path: Path) -> None:
    dev.command("fetch", "x509", "--write", str(tmp_path))
    verify = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-CAfile",
        str(tmp_path / "bundle.pem"),
        str(tmp_path / "svid.pem"),
    ]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "svid_key.pem").stat().st_mode & 0o777 == 0o600


def test_openssl_reads_the_spiffe_id_and_nothing_that_signs(dev: Dev, tmp_path: Path) -> None:
    dev.command("fetch", "x509", "--write", str(tmp_path))
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", f"{tmp_path}/svid.pem"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout
    assert "URI:spiffe://example.org/dev/self" in text
    assert "CA:FALSE" in text
    assert "Certificate Sign" not in text
