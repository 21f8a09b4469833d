"""The tokens that `fetch jwt` asks for, and those that this process may not have: the others are good nevertheless."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from cognomen.cli.output import warn
from svid.errors import WorkloadAPIError
from svid.jwtsvid import JWTSVID

__all__ = ["Withheld", "asked_tokens"]

_ALL_AUDIENCES_FILE = "jwt_svid.token"

_DENIED = "PERMISSION_DENIED"
_WITHHELD = 1


def asked_tokens(
    audiences: tuple[str, ...], named: tuple[tuple[str, str], ...], directory: Path | None
) -> Mapping[str, Sequence[str]]:
    """Whom each file's token is for."""
    if not audiences and not named:
        raise click.UsageError("expected --audience or --token, found neither")
    if named and directory is None:
        raise click.UsageError("--token needs --write")
    asked: dict[str, Sequence[str]] = {_ALL_AUDIENCES_FILE: audiences} if audiences else {}
    for name, audience in named:
        if name in asked:
            raise click.UsageError(f"--token: expected another file for each audience, found {name} twice")
        asked[name] = (audience,)
    return asked


class Withheld:
    """Sorts out the tokens that are refused, and reports each refusal once for as long as it lasts."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def sift(self, fetches: Mapping[str, Callable[[], Sequence[JWTSVID]]]) -> Mapping[str, Sequence[JWTSVID]]:
        """Fetch each, and return those that came.

        Raises:
            WorkloadAPIError: this process may have none of them, or they cannot be fetched now.
        """
        found: dict[str, Sequence[JWTSVID]] = {}
        refused: dict[str, WorkloadAPIError] = {}
        for name, fetch in fetches.items():
            try:
                found[name] = fetch()
            except WorkloadAPIError as e:
                if e.code != _DENIED:
                    raise
                refused[name] = e
        if not found:
            raise next(iter(refused.values()))
        for name, error in refused.items():
            if self._told.get(name) != str(error):
                warn(f"{name} is not written: {error}")
        self._told = {name: str(error) for name, error in refused.items()}
        return found

    def code(self) -> int:
        """The exit code, which says whether all came."""
        return _WITHHELD if self._told else 0
