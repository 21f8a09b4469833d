"""The commented configurations in deploy/ name every key, and say its default."""

import re
from pathlib import Path

import msgspec
import pytest

from attestor.config import AttestorConfig
from cognomen.daemon.config import load
from issuer.config import IssuerConfig
from svid.spiffeid import TrustDomain

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize(
    ("name", "kind", "defaults"),
    [
        ("issuer.toml", IssuerConfig, IssuerConfig(trust_domain=TrustDomain("example.org"))),
        ("attestor.toml", AttestorConfig, AttestorConfig(trust_domain=TrustDomain("example.org"))),
    ],
)
def test_the_example_with_every_key_uncommented_is_the_default(
    name: str, kind: type[msgspec.Struct], defaults: msgspec.Struct, tmp_path: Path
) -> None:
    text = re.sub(r"^# (?=[a-z0-9_]+ = )", "", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    (tmp_path / name).write_text(text)
    assert load(tmp_path / name, kind, {}) == defaults
    assert set(re.findall(r"^([a-z0-9_]+) = ", text, flags=re.MULTILINE)) == set(kind.__struct_fields__)


def test_the_issuer_s_example_loads_as_it_stands() -> None:
    assert load(DEPLOY / "issuer.toml", IssuerConfig, {}).trust_domain == TrustDomain("example.org")
