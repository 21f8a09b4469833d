"""The golden files: X509-SVIDs, JWT-SVIDs and bundles, each named by what is wrong with it, and the clause that refuses it.

Shape: tests/vectors/<kind>/index.json lists them: file, `refused_by` (null: accepted) and source. They are to be looked at in the moment
NOW, with the bundle trust/example.org.json, and by the audience `connector`.
"""

import base64
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.ca import (
    CA_USAGE,
    COMPONENT,
    NOW,
    Authority,
    Draft,
    make_authority,
    make_certificate,
    make_key,
    make_token,
)

__all__ = ["write_vectors"]


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One file, and what has to become of it."""

    file: str
    content: bytes
    refused_by: str | None
    source: str


ROOT = make_authority("authority-1")
OTHER_ROOT = make_authority("authority-1", trust_domain="example.com")
STRANGER = make_authority("stranger")
JWT_KEY = make_key("example.org authority-1 jwt")
P384_KEY = make_key("example.org authority-2 jwt", ec.SECP384R1())


def write_vectors(folder: Path) -> int:
    """Write every vector and the indexes; return how many there are."""
    count = 0
    for kind, vectors in (("x509svid", x509_vectors()), ("jwtsvid", jwt_vectors()), ("bundle", bundle_vectors())):
        rows = sorted(vectors, key=lambda vector: vector.file)
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for row in rows:
            (folder / kind / row.file).write_bytes(row.content)
        index = [{"file": row.file, "refused_by": row.refused_by, "source": row.source} for row in rows]
        (folder / kind / "index.json").write_bytes(
            _json({"at": NOW.isoformat(), "audience": "connector", "vectors": index})
        )
        count += len(rows)
    (folder / "trust").mkdir(exist_ok=True)
    (folder / "trust" / "example.org.json").write_bytes(_json(_trust()))
    (folder / "trust" / "example.org.pem").write_bytes(_pem(ROOT.certificate))
    return count


def x509_vectors() -> Iterator[Vector]:
    """Give chains, leaf first."""
    for name, draft, refused_by, source in _leaves():
        yield _chain(name, refused_by, source, make_certificate(replace(draft, name=name), ROOT))
    leaf = Draft(name="leaf")
    yield _chain("unknown_authority", "X509-SVID 5.1", "X5-23", make_certificate(leaf, STRANGER))
    foreign = make_certificate(leaf, OTHER_ROOT)
    yield _chain("signed_by_another_trust_domain", "X509-SVID 5.1", "SV-01", foreign)
    stranger = make_certificate(replace(leaf, uris=("spiffe://example.com/agent/concierge/reasoning",)), ROOT)
    yield _chain("id_of_another_trust_domain", "Trust Domain and Bundle 3", "TB-02", stranger)
    for name, draft, refused_by, source in _intermediates():
        middle = make_authority(draft, issuer=ROOT)
        yield _chain(name, refused_by, source, make_certificate(leaf, middle), middle.certificate)
    yield _chain("signing_certificate_as_leaf", "X509-SVID 5.2", "X5-11", ROOT.certificate)
    long = [make_certificate(leaf, ROOT), *[ROOT.certificate] * 10]
    yield _chain("chain_of_11", "X509-SVID 5.1", "certificates bounded", *long)


def _leaves() -> Iterator[tuple[str, Draft, str | None, str]]:
    leaf = Draft(name="leaf")
    yield "leaf", leaf, None, "X5-01"
    yield "leaf_p384", replace(leaf, curve=ec.SECP384R1()), None, "kinds of keys"
    yield "leaf_p521", replace(leaf, curve=ec.SECP521R1()), None, "kinds of keys"
    yield "leaf_secp256k1", replace(leaf, curve=ec.SECP256K1()), "X509-SVID 5.1", "kinds of keys"
    ed25519_key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    yield "leaf_ed25519", replace(leaf, public_key=ed25519_key), "X509-SVID 5.1", "kinds of keys"
    weak_key = rsa.RSAPublicNumbers(e=65537, n=(1 << 1023) + 1).public_key()
    yield "leaf_rsa_1024", replace(leaf, public_key=weak_key), "X509-SVID 5.1", "kinds of keys"
    yield "dns_names_beside_the_id", replace(leaf, dns_names=("reasoning.example.org",)), None, "X5-03"
    yield "subject_and_plain_san", replace(leaf, subject="reasoning", san_critical=False), None, "X5-05"
    yield "no_extended_key_usage", replace(leaf, extended_usage=None), None, "X5-20"
    yield "no_basic_constraints", replace(leaf, ca=None), None, "X5-13"
    usage = frozenset({"digital_signature", "key_encipherment", "key_agreement"})
    yield "all_usages_of_a_leaf", replace(leaf, usage=usage), None, "X5-17"
    yield "longest_id", replace(leaf, uris=(_id_of(2048),)), None, "ID-14"
    yield "id_of_2049_bytes", replace(leaf, uris=(_id_of(2049),)), "X509-SVID 5.2", "ID-15"
    yield "no_san", replace(leaf, uris=(), subject="x"), "X509-SVID 2", "X5-01"
    yield "no_uri_san", replace(leaf, uris=(), dns_names=("reasoning.example.org",)), "X509-SVID 2", "X5-01"
    yield "two_uri_sans", replace(leaf, uris=(COMPONENT, f"{COMPONENT}-2")), "X509-SVID 2", "X5-02"
    yield "id_and_web_address", replace(leaf, uris=(COMPONENT, "https://example.org/")), "X509-SVID 2", "X5-02"
    yield "root_path", replace(leaf, uris=("spiffe://example.org",)), "X509-SVID 5.2", "X5-04, X5-27"
    for name, uri, source in (
        ("other_scheme", "https://example.org/agent", "X5-26"),
        ("upper_case_scheme", "SPIFFE://example.org/agent", "ID-18, tension with ID-05"),
        ("trailing_slash", "spiffe://example.org/agent/", "ID-11"),
        ("dot_segment", "spiffe://example.org/agent/../cognomen", "ID-10"),
        ("percent_in_path", "spiffe://example.org/agent%2fa", "ID-09"),
        ("newline_after_id", f"{COMPONENT}\n", "ID-12"),
        ("nul_in_id", "spiffe://example.org/a\0b", "ID-12"),
        ("port", "spiffe://example.org:443/agent", "ID-04"),
        ("query", f"{COMPONENT}?", "ID-03"),
    ):
        yield name, replace(leaf, uris=(uri,)), "X509-SVID 5.2", source
    yield "ca_true", replace(leaf, ca=True), "X509-SVID 5.2", "X5-24"
    for bit, name in (("key_cert_sign", "key_cert_sign_on_leaf"), ("crl_sign", "crl_sign_on_leaf")):
        yield name, replace(leaf, usage=frozenset({"digital_signature", bit})), "X509-SVID 5.2", "X5-18, X5-25"
    yield "no_key_usage", replace(leaf, usage=None), "X509-SVID 4.3", "X5-15"
    yield "key_usage_not_critical", replace(leaf, usage_critical=False), "X509-SVID 4.3", "X5-15"
    yield "no_digital_signature", replace(leaf, usage=frozenset({"key_agreement"})), "X509-SVID 4.3", "X5-17"
    for name, oid in (
        ("client_auth_alone", ExtendedKeyUsageOID.CLIENT_AUTH),
        ("server_auth_alone", ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        yield name, replace(leaf, extended_usage=(oid,)), "X509-SVID 4.4", "X5-21"
    yield "no_subject_and_plain_san", replace(leaf, san_critical=False), "X509-SVID 3.1", "X5-05"
    over = replace(leaf, not_before=NOW - timedelta(hours=2), not_after=NOW - timedelta(seconds=1))
    yield "expired", over, "X509-SVID 5.1", "X5-23"
    early = replace(leaf, not_before=NOW + timedelta(seconds=1))
    yield "not_yet_valid", early, "X509-SVID 5.1", "X5-23"


def _intermediates() -> Iterator[tuple[str, Draft, str | None, str]]:
    middle = Draft(
        name="middle", uris=("spiffe://example.org",), subject="middle", ca=True, usage=CA_USAGE, extended_usage=None
    )
    yield "under_an_intermediate", middle, None, "X5-10"
    without_id = replace(middle, name="middle-1", uris=(), dns_names=("middle.example.org",))
    yield "intermediate_without_id", without_id, None, "X5-07"
    elsewhere = replace(middle, name="middle-5", uris=("spiffe://example.com",))
    yield "intermediate_of_another_trust_domain", elsewhere, "SPIFFE-ID 3", "SV-01"
    yield (
        "intermediate_secp256k1",
        replace(middle, name="middle-6", curve=ec.SECP256K1()),
        "X509-SVID 5.1",
        "kinds of keys",
    )
    yield "intermediate_with_path", replace(middle, name="middle-2", uris=(COMPONENT,)), "X509-SVID 3.2", "X5-08"
    yield "intermediate_not_ca", replace(middle, name="middle-3", ca=False), "X509-SVID 4.1", "X5-13"
    usage = frozenset({"crl_sign"})
    yield "intermediate_may_not_sign", replace(middle, name="middle-4", usage=usage), "X509-SVID 4.3", "X5-16"


def _chain(name: str, refused_by: str | None, source: str, *chain: x509.Certificate) -> Vector:
    return Vector(file=f"{name}.pem", content=b"".join(map(_pem, chain)), refused_by=refused_by, source=source)


def jwt_vectors() -> Iterator[Vector]:
    """Give tokens."""
    for name, header, claims, refused_by, source in (*_right_tokens(), *_wrong_headers(), *_wrong_claims()):
        key = P384_KEY if isinstance(header, dict) and header.get("alg") == "ES384" else JWT_KEY
        yield _token(name, make_token(claims, key, header=header), refused_by, source)
    good = make_token(_claims(), JWT_KEY)
    head, body, tail = good.split(".")
    yield _token("two_parts", f"{head}.{body}", "JWT-SVID 1", "JW-01")
    yield _token("four_parts", f"{good}.{tail}", "JWT-SVID 1", "JW-01")
    flattened = json.dumps({"protected": head, "payload": body, "signature": tail})
    yield _token("json_serialization", flattened, "JWT-SVID 1", "JW-01")
    yield _token("padding", f"{head}==.{body}.{tail}", "JWT-SVID 4", "RFC 7515 2")
    yield _token("signed_by_another", make_token(_claims(), STRANGER.key), "JWT-SVID 4", "JW-17")
    yield _token("no_signature", f"{head}.{body}.", "JWT-SVID 4", "JW-17")
    changed = make_token(_claims(sub="spiffe://example.org/agent/other"), JWT_KEY).split(".")[1]
    yield _token("claims_changed", f"{head}.{changed}.{tail}", "JWT-SVID 4", "JW-17")
    none = make_token(_claims(), JWT_KEY, header={"alg": "none", "typ": "JWT"}, signature=b"")
    yield _token("alg_none", none, "JWT-SVID 2.1", "JW-05")
    yield _token("alg_hs256_with_public_key", _confused(), "JWT-SVID 2.1", "JW-05")
    huge = make_token(_claims(filler="x" * 16384), JWT_KEY)
    yield _token("more_than_16_kib", huge, "", "tokens bounded")


def _claims(**changes: object) -> dict[str, object]:
    issued = int(NOW.timestamp()) - 60
    return {"sub": COMPONENT, "aud": ["connector"], "iat": issued, "exp": issued + 300, "jti": "1"} | changes


def _header(**changes: object) -> dict[str, object]:
    return {"alg": "ES256", "kid": "authority-1", "typ": "JWT"} | changes


def _without(members: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in members.items() if key != name}


_Row = tuple[str, object, object, str | None, str]


def _right_tokens() -> Iterator[_Row]:
    yield "es256", _header(), _claims(), None, "JW-04"
    yield "es384", _header(alg="ES384", kid="authority-2"), _claims(), None, "JW-04"
    yield "typ_jose", _header(typ="JOSE"), _claims(), None, "JW-08"
    yield "no_typ", _without(_header(), "typ"), _claims(), None, "JW-08"
    yield "no_kid", _without(_header(), "kid"), _claims(), None, "JW-07"
    yield "audience_as_text", _header(), _claims(aud="connector"), None, "JW-17"
    yield "two_audiences", _header(), _claims(aud=["other", "connector"]), None, "JW-11"
    yield "other_claims", _header(), _claims(**{"https://example.org/task": {"id": [1, None, "x"]}}), None, "JW-18"
    yield "exp_with_fraction", _header(), _claims(exp=NOW.timestamp() + 0.5), None, "RFC 7519 2"
    yield "issued_in_the_future", _header(), _claims(iat=NOW.timestamp() + 60), None, "iat is no start of validity"


def _wrong_headers() -> Iterator[_Row]:
    for algorithm in ("HS256", "EdDSA", "ES256K", "es256", "ML-DSA-44"):
        name = f"alg_{algorithm.lower().replace('-', '_')}{'_in_lower_case' if algorithm.islower() else ''}"
        yield name, _header(alg=algorithm), _claims(), "JWT-SVID 2.1", "JW-05"
    yield "no_alg", _without(_header(), "alg"), _claims(), "JWT-SVID 2.1", "JW-05"
    yield "alg_not_text", _header(alg=["ES256"]), _claims(), "JWT-SVID 2.1", "JW-05"
    yield "alg_of_another_curve", _header(alg="ES384"), _claims(), "JWT-SVID 4", "RFC 7518 3.4"
    yield "alg_of_another_type", _header(alg="RS256"), _claims(), "JWT-SVID 4", "RFC 7518 3.3"
    yield "typ_other", _header(typ="wit+jwt"), _claims(), "JWT-SVID 2.3", "JW-08"
    yield "typ_in_lower_case", _header(typ="jwt"), _claims(), "JWT-SVID 2.3", "JW-08"
    yield "crit", _header(crit=["exp"], exp=1), _claims(), "JWT-SVID 2", "JW-17"
    yield "b64_false", _header(b64=False), _claims(), "JWT-SVID 2", "JW-03"
    yield "key_in_header", _header(jwk={"kty": "EC"}), _claims(), "JWT-SVID 2", "JW-03"
    yield "key_address_in_header", _header(jku="https://example.com/keys"), _claims(), "JWT-SVID 2", "JW-03"
    yield "unknown_kid", _header(kid="authority-9"), _claims(), "JWT-SVID 4", "JW-17"
    yield "kid_not_text", _header(kid=1), _claims(), "JWT-SVID 2.2", "JW-07"
    yield "alg_twice", '{"alg":"none","alg":"ES256"}', _claims(), "JWT-SVID 4", "RFC 7515 4"
    yield "header_not_object", ["ES256"], _claims(), "JWT-SVID 4", "RFC 7515 4"


def _wrong_claims() -> Iterator[_Row]:
    for name, claims, refused_by, source in (
        ("no_sub", _without(_claims(), "sub"), "JWT-SVID 3.1", "JW-09"),
        ("sub_no_id", _claims(sub="reasoning"), "JWT-SVID 3.1", "JW-09"),
        ("sub_with_newline", _claims(sub=f"{COMPONENT}\n"), "JWT-SVID 3.1", "ID-12"),
        ("sub_of_another_trust_domain", _claims(sub="spiffe://example.com/a"), "Trust Domain and Bundle 3", "WA-38"),
        ("no_aud", _without(_claims(), "aud"), "JWT-SVID 3.2", "JW-11"),
        ("empty_aud", _claims(aud=[]), "JWT-SVID 3.2", "JW-10"),
        ("aud_not_text", _claims(aud=["connector", 1]), "JWT-SVID 3.2", "RFC 7519 4.1.3"),
        ("another_audience", _claims(aud=["other"]), "JWT-SVID 3.2", "JW-11"),
        ("audience_in_upper_case", _claims(aud=["CONNECTOR"]), "JWT-SVID 3.2", "JW-11"),
        ("no_exp", _without(_claims(), "exp"), "JWT-SVID 3.3", "JW-14"),
        ("exp_as_text", _claims(exp="2036-01-01"), "JWT-SVID 3.3", "RFC 7519 2"),
        ("exp_without_end", _claims(exp=1e300), "JWT-SVID 3.3", "RFC 7519 2"),
        ("expired", _claims(exp=int(NOW.timestamp())), "JWT-SVID 3.3", "JW-15"),
        ("not_yet_valid", _claims(nbf=int(NOW.timestamp()) + 1), "JWT-SVID 4", "JW-17"),
        ("nbf_as_text", _claims(nbf="now"), "JWT-SVID 4", "JW-17"),
        (
            "claim_twice",
            f'{{"sub":"{COMPONENT}","sub":"{COMPONENT}","aud":"connector","exp":1}}',
            "JWT-SVID 4",
            "RFC 7519 4",
        ),
        ("claims_not_json", "sub", "JWT-SVID 4", "RFC 7519 7.2"),
        ("claims_too_deep", "[" * 6000, "JWT-SVID 4", "depth bounded"),
    ):
        yield name, _header(), claims, refused_by, source


def _confused() -> str:
    """Sign with HMAC, where the secret is the public key."""
    signed = make_token(_claims(), JWT_KEY, header=_header(alg="HS256")).rpartition(".")[0]
    secret = JWT_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    tail = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256")).rstrip(b"=").decode()
    return f"{signed}.{tail}"


def _token(name: str, token: str, refused_by: str | None, source: str) -> Vector:
    return Vector(file=f"{name}.jwt", content=token.encode(), refused_by=refused_by, source=source)


def bundle_vectors() -> Iterator[Vector]:
    """Give bundle documents."""
    ca, signer = _x509_jwk(ROOT), _jwt_jwk("authority-1", JWT_KEY)
    for name, document, source in (
        ("full", _trust(), "TB-04"),
        ("jwt_keys_alone", {"keys": [signer]}, "X5-35"),
        ("x509_keys_alone", {"keys": [ca]}, "JW-23"),
        ("no_keys_left", {"keys": [], "spiffe_sequence": 8}, "TB-12"),
        ("other_members", {"keys": [ca], "comment": {"a": [1]}}, "TB-05"),
        ("largest_sequence", {"keys": [ca], "spiffe_sequence": 2**64 - 1}, "TB-08"),
        ("unknown_key_type", {"keys": [{"kty": "AKP", "use": "jwt-svid", "kid": "x"}, ca]}, "TB-14"),
        ("unknown_use", {"keys": [signer | {"use": "wit-svid", "kid": "w"}, ca]}, "TB-15"),
        ("use_in_upper_case", {"keys": [signer | {"use": "JWT-SVID"}, ca]}, "TB-15"),
        ("no_use", {"keys": [_without(signer, "use"), ca]}, "TB-15"),
        ("no_kty", {"keys": [_without(signer, "kty"), ca]}, "TB-14"),
        ("unknown_curve", {"keys": [signer | {"crv": "secp256k1"}, ca]}, "TB-11"),
        ("no_x5c", {"keys": [_without(ca, "x5c"), signer]}, "X5-33"),
        ("empty_x5c", {"keys": [ca | {"x5c": []}, signer]}, "X5-33"),
        ("two_x5c", {"keys": [ca | {"x5c": [_x5c(ROOT), "no base64"]}]}, "X5-34"),
        ("same_certificate_twice", {"keys": [ca, ca]}, "X5-35"),
    ):
        yield Vector(file=f"{name}.json", content=_json(document), refused_by=None, source=source)
    yield from _wrong_bundles(ca, signer)


def _wrong_bundles(ca: dict[str, object], signer: dict[str, object]) -> Iterator[Vector]:
    for name, document, refused_by, source in (
        ("no_keys", {"spiffe_sequence": 1}, "Trust Domain and Bundle 4.1.3", "TB-10"),
        ("keys_null", {"keys": None}, "Trust Domain and Bundle 4.1.3", "TB-10"),
        ("key_not_object", {"keys": [ca, "x"]}, "Trust Domain and Bundle 4.2", "TB-04"),
        ("sequence_as_text", {"keys": [], "spiffe_sequence": "1"}, "Trust Domain and Bundle 4.1", "TB-07"),
        ("sequence_null", {"keys": [], "spiffe_sequence": None}, "Trust Domain and Bundle 4.1", "TB-07"),
        ("sequence_true", {"keys": [], "spiffe_sequence": True}, "Trust Domain and Bundle 4.1", "TB-07"),
        ("sequence_negative", {"keys": [], "spiffe_sequence": -1}, "Trust Domain and Bundle 4.1", "TB-07"),
        ("sequence_of_65_bits", {"keys": [], "spiffe_sequence": 2**64}, "Trust Domain and Bundle 4.1", "TB-08"),
        ("hint_with_fraction", {"keys": [], "spiffe_refresh_hint": 1.5}, "Trust Domain and Bundle 4.1", "TB-09"),
        (
            "hint_of_a_thousand_years",
            {"keys": [], "spiffe_refresh_hint": 10**11},
            "Trust Domain and Bundle 4.1",
            "TB-09",
        ),
        ("x5c_as_text", {"keys": [ca | {"x5c": "MII"}]}, "X509-SVID 6.1", "X5-31"),
        ("x5c_not_base64", {"keys": [ca | {"x5c": ["MII*"]}]}, "X509-SVID 6.1", "X5-31"),
        ("x5c_empty_text", {"keys": [ca | {"x5c": [""]}]}, "X509-SVID 6.1", "X5-31"),
        ("no_kid", {"keys": [_without(signer, "kid")]}, "JWT-SVID 6.1", "JW-22"),
        ("empty_kid", {"keys": [signer | {"kid": ""}]}, "JWT-SVID 6.1", "JW-22"),
        ("kid_twice", {"keys": [signer, signer]}, "JWT-SVID 6.1", "JW-22"),
        ("no_y", {"keys": [_without(signer, "y")]}, "JWT-SVID 6.1", "JW-21"),
        ("not_on_the_curve", {"keys": [signer | {"y": signer["x"]}]}, "JWT-SVID 6.1", "JW-21"),
    ):
        yield Vector(file=f"{name}.json", content=_json(document), refused_by=refused_by, source=source)
    for name, text in (
        ("not_json", b"-----BEGIN CERTIFICATE-----"),
        ("not_utf8", b'{"keys":[],"a":"\xff"}'),
        ("byte_order_mark", b'\xef\xbb\xbf{"keys":[]}'),
        ("array", b"[]"),
        ("keys_twice", b'{"keys":[],"keys":[]}'),
        ("not_a_number", b'{"keys":[],"spiffe_sequence":NaN}'),
        ("too_deep", b'{"keys":' + b"[" * 100_000),
        ("number_of_5000_digits", b'{"keys":[],"spiffe_sequence":' + b"1" * 5000 + b"}"),
    ):
        yield Vector(file=f"{name}.json", content=text, refused_by="Trust Domain and Bundle 4", source="RFC 8259")


def _trust() -> dict[str, object]:
    keys = [_x509_jwk(ROOT), _jwt_jwk("authority-1", JWT_KEY), _jwt_jwk("authority-2", P384_KEY)]
    return {"keys": keys, "spiffe_sequence": 7, "spiffe_refresh_hint": 300}


def _x509_jwk(authority: Authority) -> dict[str, object]:
    return _ec_jwk(authority.key) | {"use": "x509-svid", "x5c": [_x5c(authority)]}


def _x5c(authority: Authority) -> str:
    return base64.b64encode(authority.certificate.public_bytes(Encoding.DER)).decode()


def _jwt_jwk(kid: str, key: ec.EllipticCurvePrivateKey) -> dict[str, object]:
    return _ec_jwk(key) | {"use": "jwt-svid", "kid": kid}


def _ec_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, object]:
    numbers, size = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
    point = {
        name: base64.urlsafe_b64encode(number.to_bytes(size)).rstrip(b"=").decode()
        for name, number in (("x", numbers.x), ("y", numbers.y))
    }
    return {"kty": "EC", "crv": f"P-{key.curve.key_size}", **point}


def _id_of(size: int) -> str:
    return COMPONENT + "x" * (size - len(COMPONENT))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _json(document: object) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
