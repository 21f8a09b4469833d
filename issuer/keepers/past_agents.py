"""What agents were in the newest rulebook that had them: no rulebook is read twice for that, however many came later."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from cognomen.process.ownthreads import in_own_thread
from cognomen.rulebook.reading import read
from cognomen.rulebook.rules import Agent
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.rulebooks import AppliedRulebook

__all__ = ["PastAgents"]


class _Known(NamedTuple):
    """What was found in the rulebooks up to this revision."""

    revision: int
    agent: Agent | None


class PastAgents:
    """Finds agents that were suspended; it remembers each name that it is asked for."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    async def last(self, datastore: Datastore, name: str) -> Agent | None:
        """An agent, as the newest rulebook has it that has it; None: none ever had it.

        Args:
            name: AGENT; or AGENT/COMPONENT for the agent of the newest rulebook that has this component.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        known = self._known.get(name, _Known(0, None))
        newest = await datastore.read(lambda tx: tx.rulebooks.revision())
        for revision in range(newest, known.revision, -1):
            applied = await datastore.read(partial(_get_in, revision))
            found = None if applied is None else await in_own_thread(_agent_in, applied.files, name)
            if found is not None:
                self._known[name] = _Known(newest, found)
                return found
        self._known[name] = _Known(newest, known.agent)
        return known.agent


def _get_in(revision: int, tx: Transaction) -> AppliedRulebook | None:
    return tx.rulebooks.get(revision)


def _agent_in(files: Mapping[str, str], name: str) -> Agent | None:
    """The agent, if these files have it; only those are read that can: an agent is in one file."""
    agent, slash, component = name.partition("/")
    some = {
        file: text.encode()
        for file, text in files.items()
        if "\\" in text or (agent in text and component in text)  # a name may be written with escapes
    }
    rulebook, _ = read(some)
    found = rulebook.agents.get(agent)
    return None if found is None or (slash and component not in found.components) else found
