"""SPIFFE-ID 3 and X509-SVID: what a validator accepts and refuses, by the golden files. What we sign is in the issuer's tests."""

import pytest

from certs.ca import CA_USAGE, COMPONENT, Draft, make_authority, make_certificate, make_leaf
from svid.encoding import certificates_to_der
from svid.errors import X509SVIDError
from svid.keys import private_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID, check_leaf, check_signing
from tests.spec.vectors import TRUST_DOMAIN, refusal, verify_chain

REASONING = SpiffeID.parse(COMPONENT)
SIGNING = Draft(name="ca", uris=("spiffe://example.org",), subject="ca", ca=True, usage=CA_USAGE, extended_usage=None)


@pytest.mark.clause("X5-01")
def test_a_leaf_has_one_uri_name_and_it_is_its_id() -> None:
    assert verify_chain("leaf") == REASONING
    assert refusal("x509svid", "no_san") == refusal("x509svid", "no_uri_san") == "X509-SVID 2"


@pytest.mark.clause("X5-02")
@pytest.mark.parametrize("name", ["two_uri_sans", "id_and_web_address"])
def test_a_leaf_with_two_uri_names_is_refused(name: str) -> None:
    assert refusal("x509svid", name) == "X509-SVID 2"


@pytest.mark.clause("X5-03")
def test_names_of_other_types_may_stand_beside_the_id() -> None:
    assert verify_chain("dns_names_beside_the_id") == REASONING


@pytest.mark.clause("X5-04", "X5-27")
def test_a_leaf_without_a_path_is_refused() -> None:
    assert refusal("x509svid", "root_path") == "X509-SVID 5.2"


@pytest.mark.clause("X5-05")
def test_the_names_are_critical_where_the_subject_is_empty() -> None:
    assert verify_chain("subject_and_plain_san") == REASONING
    assert refusal("x509svid", "no_subject_and_plain_san") == "X509-SVID 3.1"


@pytest.mark.clause("X5-06", "X5-13", "X5-16")
def test_only_a_ca_with_key_cert_sign_signs() -> None:
    assert refusal("x509svid", "intermediate_not_ca") == "X509-SVID 4.1"
    assert refusal("x509svid", "intermediate_may_not_sign") == "X509-SVID 4.3"


@pytest.mark.clause("X5-07")
def test_a_foreign_signing_certificate_may_have_no_id_ours_has_one() -> None:
    assert verify_chain("intermediate_without_id") == REASONING
    certificate = make_certificate(Draft(name="ca", uris=(), subject="ca", ca=True, usage=CA_USAGE), None)
    with pytest.raises(X509SVIDError, match="URI SAN: expected 1, found 0"):
        check_signing(certificate, TRUST_DOMAIN)


@pytest.mark.clause("X5-08", "SV-03")
def test_a_signing_certificate_with_a_path_is_refused() -> None:
    assert refusal("x509svid", "intermediate_with_path") == "X509-SVID 3.2"


@pytest.mark.clause("X5-09", "SV-03")
def test_our_signing_certificates_are_of_the_trust_domain_they_sign_for() -> None:
    certificate = make_certificate(SIGNING, None)
    check_signing(certificate, TRUST_DOMAIN)
    with pytest.raises(X509SVIDError, match=r"expected the trust domain example\.com, found example\.org"):
        check_signing(certificate, TrustDomain("example.com"))


@pytest.mark.clause("X5-10")
def test_a_signing_certificate_may_stand_between() -> None:
    assert verify_chain("under_an_intermediate") == REASONING


@pytest.mark.clause("X5-11")
def test_a_signing_certificate_does_not_authenticate() -> None:
    assert refusal("x509svid", "signing_certificate_as_leaf") == "X509-SVID 5.2"


@pytest.mark.clause("X5-13", "X5-24")
def test_a_leaf_that_is_a_ca_is_refused() -> None:
    assert verify_chain("no_basic_constraints") == REASONING
    assert refusal("x509svid", "ca_true") == "X509-SVID 5.2"


@pytest.mark.clause("X5-15")
@pytest.mark.parametrize("name", ["no_key_usage", "key_usage_not_critical"])
def test_key_usage_is_there_and_critical(name: str) -> None:
    assert refusal("x509svid", name) == "X509-SVID 4.3"


@pytest.mark.clause("X5-17")
def test_a_leaf_has_digital_signature_and_may_have_the_two_others() -> None:
    assert verify_chain("all_usages_of_a_leaf") == REASONING
    assert refusal("x509svid", "no_digital_signature") == "X509-SVID 4.3"


@pytest.mark.clause("X5-18", "X5-25")
@pytest.mark.parametrize("name", ["key_cert_sign_on_leaf", "crl_sign_on_leaf"])
def test_a_leaf_that_may_sign_is_refused(name: str) -> None:
    assert refusal("x509svid", name) == "X509-SVID 5.2"


@pytest.mark.clause("X5-19")
def test_our_signing_certificates_may_sign_and_nothing_else() -> None:
    certificate = make_certificate(Draft(**vars(SIGNING) | {"usage": CA_USAGE | {"digital_signature"}}), None)
    with pytest.raises(X509SVIDError, match="expected only keyCertSign and cRLSign"):
        check_signing(certificate, TRUST_DOMAIN)


@pytest.mark.clause("X5-20")
def test_a_foreign_leaf_may_have_no_extended_usage_ours_has_it() -> None:
    assert verify_chain("no_extended_key_usage") == REASONING
    with pytest.raises(X509SVIDError, match="extended key usage: missing on a leaf"):
        check_leaf(make_certificate(Draft(name="leaf", extended_usage=None), None))


@pytest.mark.clause("X5-21")
@pytest.mark.parametrize("name", ["client_auth_alone", "server_auth_alone"])
def test_extended_usage_holds_both_sides_of_tls(name: str) -> None:
    assert refusal("x509svid", name) == "X509-SVID 4.4"


@pytest.mark.clause("X5-23")
@pytest.mark.parametrize("name", ["expired", "not_yet_valid", "unknown_authority"])
def test_the_path_is_validated(name: str) -> None:
    assert refusal("x509svid", name) == "X509-SVID 5.1"


@pytest.mark.clause("X5-26")
@pytest.mark.parametrize("name", ["other_scheme", "upper_case_scheme"])
def test_a_leaf_of_another_scheme_is_refused(name: str) -> None:
    assert refusal("x509svid", name) == "X509-SVID 5.2"


@pytest.mark.clause("SV-01", "TB-02", "WA-15")
@pytest.mark.parametrize("name", ["signed_by_another_trust_domain", "id_of_another_trust_domain"])
def test_only_an_authority_of_the_ids_own_trust_domain_vouches(name: str) -> None:
    assert refusal("x509svid", name) is not None


@pytest.mark.clause("SV-05")
def test_an_id_that_was_changed_after_signing_is_refused() -> None:
    assert refusal("jwtsvid", "claims_changed") == "JWT-SVID 4"


@pytest.mark.clause("SV-06")
def test_a_token_of_another_sort_is_no_svid() -> None:
    assert refusal("jwtsvid", "typ_other") == "JWT-SVID 2.3"


@pytest.mark.clause("WA-45")
@pytest.mark.parametrize("hint", ["", "internal", "x" * 2000, "a\nb", "\U0001f511"])
def test_an_svid_is_read_whatever_its_hint(hint: str) -> None:
    leaf, key = make_leaf(Draft(name="leaf"), make_authority("authority-1"))
    svid = X509SVID.parse(certificates_to_der([leaf]), private_key_to_der(key), hint=hint)
    assert (svid.spiffe_id, svid.hint) == (REASONING, hint)
