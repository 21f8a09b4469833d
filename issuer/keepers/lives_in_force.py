"""Keeps how long the tokens live that the providers of the rulebook in force give: a large rulebook is read once for each revision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from cognomen.process.ownthreads import in_own_thread
from cognomen.rulebook.reading import read
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.providers import declared_lives

__all__ = ["LivesInForce"]

_WORD = "provider"  # files without it declare none


@dataclass(slots=True)
class LivesInForce:
    """What was read last, and of which revision."""

    _revision: int = 0
    _lives: Mapping[str, timedelta] = field(default_factory=dict)

    async def get(self, datastore: Datastore) -> Mapping[str, timedelta]:
        """By audience, the longest life of a token."""
        known = self._revision

        def work(tx: Transaction) -> tuple[int, Mapping[str, str]]:
            revision = tx.rulebooks.revision()
            found = tx.rulebooks.get(revision) if revision != known else None
            return revision, {} if found is None else found.files

        revision, files = await datastore.read(work)
        if revision != known:
            lives = await in_own_thread(_read, files)
            self._revision, self._lives = revision, lives
        return self._lives


def _read(files: Mapping[str, str]) -> Mapping[str, timedelta]:
    rulebook, _ = read({name: text.encode() for name, text in files.items() if _WORD in text})
    return declared_lives(rulebook)
