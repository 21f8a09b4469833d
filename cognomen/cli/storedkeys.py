"""Stored keys that win over an identity: SDKs look for a key in the environment first, and say nothing when they find one.

They find it also where the variables of the identity are missing, as when a program's unit forgot them.

docs/how-to/no-more-api-keys.md says how they take a JWT-SVID.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

__all__ = ["environment_of", "winning"]

_CLAUDE = frozenset({"ANTHROPIC_IDENTITY_TOKEN_FILE", "ANTHROPIC_IDENTITY_TOKEN", "ANTHROPIC_FEDERATION_RULE_ID"})
_WINS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ANTHROPIC_API_KEY": _CLAUDE,
        "ANTHROPIC_AUTH_TOKEN": _CLAUDE,
        "AWS_ACCESS_KEY_ID": frozenset({"AWS_WEB_IDENTITY_TOKEN_FILE"}),
        "AZURE_CLIENT_SECRET": frozenset({"AZURE_FEDERATED_TOKEN_FILE"}),
        "AZURE_CLIENT_CERTIFICATE_PATH": frozenset({"AZURE_FEDERATED_TOKEN_FILE"}),
        "OPENAI_API_KEY": frozenset(),
    }
)
"""By the variable of a key: those of the identity that it overrides."""


def winning(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """The variables that hold a key which the provider's SDK takes, each with what it means for the identity.

    Args:
        names: the variables that are set, and not empty.
    """
    for key, identities in _WINS.items():
        if key not in names:
            continue
        if not identities:
            yield key, "and the provider's SDK takes it unless the program gives it an identity in code"
        elif overridden := sorted(identities & set(names)):
            yield key, f"and wins over {overridden[0]}"
        else:
            yield key, f"and the provider's SDK takes it in place of an identity ({_expected(key)} is not set)"


def _expected(key: str) -> str:
    """The variable that would name a file with a token."""
    return next(name for name in sorted(_WINS[key]) if name.endswith("_FILE"))


def environment_of(pid: int) -> frozenset[str]:
    """The names of the variables that a process was started with and that are not empty; none, if we may not look."""
    try:
        block = Path(f"/proc/{pid or os.getpid()}/environ").read_bytes()
    except OSError:
        return frozenset()
    pairs = (one.partition(b"=") for one in block.split(b"\0"))
    return frozenset(name.decode("ascii", "replace") for name, _, value in pairs if value)
