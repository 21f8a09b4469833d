"""A trust domain of 255 bytes, as the standard allows, has files where a file system takes names of 255."""

from pathlib import Path

from cognomen.cli.main import run
from svid.bundle import Bundle
from svid.spiffeid import TrustDomain
from svid.wire.pb import workload_pb2 as pb
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import WorkloadAPIDouble

NAMES = ("example.org", "a" * 232, "b" * 233, "c" * 255, "c" * 254 + "d")


def test_each_bundle_has_its_files_however_long_its_name_is(tmp_path: Path) -> None:
    bundle = TrustDomainDouble().bundle
    x509 = {f"spiffe://{name}": bundle.x509_der() for name in NAMES}
    jwt = {f"spiffe://{name}": bundle.jwt_jwks() for name in NAMES}
    with WorkloadAPIDouble(tmp_path) as double:
        double.say("FetchX509Bundles", pb.X509BundlesResponse(bundles=x509).SerializeToString())
        double.say("FetchJWTBundles", pb.JWTBundlesResponse(bundles=jwt).SerializeToString())
        assert run(["fetch", "bundles", "--socket", double.socket, "--write", str(tmp_path / "files")]) == 0
    files = {path.name: path for path in (tmp_path / "files").glob("[!.]*")}
    assert len(files) == 2 * len(NAMES)
    assert {"example.org.pem", "example.org.json", f"{NAMES[1]}.pem"} < files.keys()
    short = sorted(name.removesuffix(".pem") for name in files if "~" in name and name.endswith(".pem"))
    assert [name[:200] for name in short] == [f"{letter * 199}~" for letter in "bcc"]
    for name, path in files.items():
        if name.endswith(".json"):
            assert Bundle.from_jwks(TrustDomain("example.org"), path.read_bytes()).jwt_authorities
