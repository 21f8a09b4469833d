"""cognomen/cli/storedkeys: which keys in an environment a provider's SDK takes in place of an identity."""

import pytest

from cognomen.cli.storedkeys import winning

CASES = [
    ({"ANTHROPIC_API_KEY", "ANTHROPIC_FEDERATION_RULE_ID"}, "and wins over ANTHROPIC_FEDERATION_RULE_ID"),
    ({"ANTHROPIC_API_KEY"}, "(ANTHROPIC_IDENTITY_TOKEN_FILE is not set)"),
    ({"AWS_ACCESS_KEY_ID"}, "(AWS_WEB_IDENTITY_TOKEN_FILE is not set)"),
    ({"AZURE_CLIENT_SECRET"}, "(AZURE_FEDERATED_TOKEN_FILE is not set)"),
    ({"OPENAI_API_KEY"}, "unless the program gives it an identity in code"),
]


@pytest.mark.parametrize(("names", "words"), CASES)
def test_a_key_is_told_with_what_it_means_for_the_identity(names: set[str], words: str) -> None:
    ((key, meaning),) = winning(names | {"HOME"})
    assert key in names
    assert words in meaning


def test_an_identity_without_a_key_is_not_told() -> None:
    assert list(winning({"ANTHROPIC_IDENTITY_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "HOME"})) == []
