"""A real Envoy terminates mTLS with the files that `fetch --write` keeps, and takes each rotation without a failed request."""

import http.client
import http.server
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import envoy
import pytest

from bench.rig.child import running
from bench.rig.daemons import COGNOMEN, Dev, free_port
from svid.source import X509Identity
from svid.spiffeid import SpiffeID
from svid.tls.authorize import exactly
from svid.tls.context import client_context
from svid.workloadapi.sources import X509Source
from svid.x509svid import X509SVID
from tests.doubles.identity import Identity

ENVOY = Path(envoy.__file__).parent / "_bin" / "envoy"
ME = f"unix:uid:{os.geteuid()}"
SERIALS = 4  # the first, and three rotations
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


class Hello(http.server.BaseHTTPRequestHandler):
    """What stands behind Envoy."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def upstream() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def secret(name: str, **content: object) -> dict[str, object]:
    return {"resources": [{"@type": f"{TLS}.Secret", "name": name, **content}]}


def configuration(directory: Path, port: int, upstream_port: int, *wanted: str) -> dict[str, object]:
    """Static, but for the secrets: those are read from files, again whenever their set is replaced."""
    files = directory / "files"
    watched = {"watched_directory": {"path": str(files)}}
    pair = {
        "certificate_chain": {"filename": f"{files}/svid.pem"},
        "private_key": {"filename": f"{files}/svid_key.pem"},
    }
    trusted = {"trusted_ca": {"filename": f"{files}/bundle.pem"}, "crl": {"filename": f"{files}/crl.pem"}}
    (directory / "identity.json").write_text(json.dumps(secret("identity", tls_certificate=pair | watched)))
    (directory / "bundle.json").write_text(json.dumps(secret("bundle", validation_context=trusted | watched)))

    def by_file(name: str) -> dict[str, object]:
        return {"name": name, "sds_config": {"path_config_source": {"path": f"{directory}/{name}.json"}}}

    peers = {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": one}} for one in wanted]}
    tls = {
        "@type": f"{TLS}.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [by_file("identity")],
            "combined_validation_context": {
                "default_validation_context": peers,
                "validation_context_sds_secret_config": by_file("bundle"),
            },
        },
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "hello"}}
    manager = {
        "@type": MANAGER,
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    chain = {
        "transport_socket": {"name": "tls", "typed_config": tls},
        "filters": [{"name": "http", "typed_config": manager}],
    }
    return {
        "node": {"id": "envoy", "cluster": "envoy"},  # which Envoy wants wherever a secret comes from outside
        "static_resources": {
            "listeners": [{"name": "in", "address": address(port), "filter_chains": [chain]}],
            "clusters": [
                {
                    "name": "hello",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "hello",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream_port)}}]}],
                    },
                }
            ],
        },
    }


def address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def test_envoy_takes_each_rotation_and_lets_nobody_else_in(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        # 1. The house, the files of Envoy's identity, and Envoy.
        entries = ("--entry", f"/client={ME}", "--entry", f"/envoy={ME}")
        dev = stack.enter_context(Dev(tmp_path, "--x509-ttl=8s", *entries))
        stack.enter_context(proxy(dev, tmp_path, port, "spiffe://example.org/client"))
        # 2. Requests, each over a connection of its own, until Envoy has shown some certificates: none fails.
        source = stack.enter_context(X509Source(f"unix://{dev.socket}", pick=lambda svids: of(svids, "/client")))
        serials: set[object] = set()
        while len(serials) < SERIALS:
            serials.add(hello(source, port))
        # 3. Somebody of the same trust domain whom Envoy does not want.
        other = stack.enter_context(X509Source(f"unix://{dev.socket}", pick=lambda svids: of(svids, "/envoy")))
        with pytest.raises((OSError, http.client.HTTPException)):
            hello(other, port)


def test_envoy_refuses_a_revoked_certificate_and_goes_on_serving_others(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        # 1. The house, two components, and Envoy, which wants both.
        entries = [f"--entry={path}={ME}" for path in ("/client", "/other", "/envoy")]
        dev = stack.enter_context(Dev(tmp_path, *entries))
        wanted = ("spiffe://example.org/client", "spiffe://example.org/other")
        stack.enter_context(proxy(dev, tmp_path, port, *wanted))
        client, other = (
            stack.enter_context(X509Source(f"unix://{dev.socket}", pick=partial(of, path=path)))
            for path in ("/client", "/other")
        )
        # 2. What somebody holds who copied the certificate and its key is good, until it is revoked.
        stolen = Identity(client.svid, *client.bundles.values())
        hello(stolen, port)
        dev.command("revoke", "svid", f"{stolen.svid.serial:x}", "--socket", str(dev.state / "admin" / "issuer.sock"))
        while is_served(stolen, port):
            hello(other, port)
        # 3. The other one is served, and so is the component with its next certificate.
        while client.svid.serial == stolen.svid.serial:
            pass
        for _ in range(5):
            hello(other, port)
            hello(client, port)
            assert not is_served(stolen, port)


@contextmanager
def proxy(dev: Dev, directory: Path, port: int, *wanted: str) -> Iterator[None]:
    """Envoy in front of a plain server, with an identity of its own, letting in whom it wants."""
    files, config, log = directory / "files", directory / "envoy.json", directory / "envoy.log"
    fetch = ["fetch", "x509", "--spiffe-id=/envoy", "--watch", f"--write={files}"]
    options = ["--config-path", str(config), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
    with running([*COGNOMEN, *fetch], directory / "fetch.log", dev.environment), upstream() as behind:
        while not (files / "crl.pem").exists():
            pass
        config.write_text(json.dumps(configuration(directory, port, behind, *wanted)))
        with running([str(ENVOY), *options], log) as child:
            while not listens(port):
                assert child.poll() is None, log.read_text()
            yield


def is_served(source: X509Identity, port: int) -> bool:
    """Whether a request is answered, rather than the connection ended for the certificate."""
    try:
        hello(source, port)
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return False
    return True


def of(svids: Sequence[X509SVID], path: str) -> X509SVID:
    return next(svid for svid in svids if svid.spiffe_id.path == path)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def hello(source: X509Identity, port: int) -> object:
    """One request over a new connection; the serial number of the server's leaf."""
    context = client_context(source, exactly(SpiffeID.parse("spiffe://example.org/envoy")))
    with closing(http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)) as connection:
        connection.request("GET", "/")
        leaf = connection.sock.getpeercert()
        assert connection.getresponse().read() == b"hello"
    assert leaf is not None
    return leaf["serialNumber"]
