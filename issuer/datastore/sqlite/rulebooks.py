"""Applied rulebooks, and the agents that operators suspended or retired, in SQLite."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

import msgspec
from sqlite_utils import Database

from issuer.datastore.sqlite import codec
from issuer.decisions.rulebooks import AppliedRulebook, HeldAgent, RetiredAgent

__all__ = ["SQLiteHeldAgents", "SQLiteRulebooks"]

_WHOLE = "SELECT revision, digest, components, actor, login, comment, at, files FROM rulebook WHERE revision = ?"
_NEWEST = "SELECT revision, digest, components, actor, login, comment, at FROM rulebook ORDER BY revision DESC LIMIT ?"


class SQLiteRulebooks:
    """Every rulebook that was applied, compressed, and the names that are retired."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def revision(self) -> int:
        """That of the rulebook in force; 0: there is none."""
        ((found,),) = self._database.execute("SELECT coalesce(max(revision), 0) FROM rulebook").fetchall()
        return int(found)

    def get(self, revision: int) -> AppliedRulebook | None:
        """The rulebook of that revision."""
        for row in self._database.query(_WHOLE, [revision]):
            files = row["files"]
            assert isinstance(files, bytes)  # noqa: S101 - STRICT
            return replace(_from_row(row), files=msgspec.json.decode(zlib.decompress(files), type=dict[str, str]))
        return None

    def newest(self, limit: int) -> Sequence[AppliedRulebook]:
        """The newest ones, the newest first, without their files: these may be 16 MiB each."""
        return list(map(_from_row, self._database.query(_NEWEST, [limit])))

    def add(self, applied: AppliedRulebook) -> None:
        """Add a rulebook; its revision is new."""
        self._database.execute(
            "INSERT INTO rulebook (revision, files, digest, components, actor, login, comment, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                applied.revision,
                zlib.compress(msgspec.json.encode(dict(applied.files))),
                applied.digest,
                applied.components,
                applied.actor,
                applied.login,
                applied.comment,
                codec.to_micros(applied.at),
            ),
        )

    def retired(self) -> Mapping[str, RetiredAgent]:
        """The retired agents, by name."""
        rows = self._database.query(
            "SELECT name, owner, revision, at, actor, login, comment FROM retired_agent ORDER BY name"
        )
        return {
            row["name"]: RetiredAgent(
                name=row["name"],
                owner=row["owner"],
                revision=row["revision"],
                at=codec.from_micros(row["at"]),
                actor=row["actor"],
                login=row["login"],
                comment=row["comment"],
            )
            for row in rows
        }

    def retire(self, agents: Sequence[RetiredAgent]) -> None:
        """Add names to the retired ones."""
        self._database.conn.executemany(
            "INSERT INTO retired_agent (name, owner, revision, at, actor, login, comment) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (one.name, one.owner, one.revision, codec.to_micros(one.at), one.actor, one.login, one.comment)
                for one in agents
            ],
        )


class SQLiteHeldAgents:
    """Agents that were suspended beside the rulebook."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def held(self) -> Mapping[str, HeldAgent]:
        """All of them, by name."""
        rows = self._database.query("SELECT name, actor, login, comment, at, review_by FROM held_agent ORDER BY name")
        return {
            row["name"]: HeldAgent(
                name=row["name"],
                actor=row["actor"],
                login=row["login"],
                comment=row["comment"],
                at=codec.from_micros(row["at"]),
                review_by=None if row["review_by"] is None else date.fromisoformat(row["review_by"]),
            )
            for row in rows
        }

    def hold(self, agent: HeldAgent) -> None:
        """Add an agent to those that are held, or overwrite it."""
        self._database.execute(
            "INSERT OR REPLACE INTO held_agent (name, actor, login, comment, at, review_by) VALUES (?, ?, ?, ?, ?, ?)",
            (
                agent.name,
                agent.actor,
                agent.login,
                agent.comment,
                codec.to_micros(agent.at),
                None if agent.review_by is None else agent.review_by.isoformat(),
            ),
        )

    def release(self, name: str) -> None:
        """Remove an agent from those that are held, if it is there."""
        self._database.execute("DELETE FROM held_agent WHERE name = ?", [name])

    def excuse(self, name: str, review_by: date) -> None:
        """Note that an operator resumed an agent although that review is overdue."""
        self._database.execute(
            "INSERT OR REPLACE INTO excused_agent (name, review_by) VALUES (?, ?)", (name, review_by.isoformat())
        )

    def excused(self) -> Mapping[str, date]:
        """The overdue reviews for which the issuer does not suspend, by the names of the agents."""
        rows = self._database.query("SELECT name, review_by FROM excused_agent ORDER BY name")
        return {row["name"]: date.fromisoformat(row["review_by"]) for row in rows}


def _from_row(row: Mapping[str, object]) -> AppliedRulebook:
    revision, components, at = row["revision"], row["components"], row["at"]
    assert isinstance(revision, int) and isinstance(components, int) and isinstance(at, int)  # noqa: S101, PT018 - STRICT
    return AppliedRulebook(
        revision=revision,
        files={},
        digest=str(row["digest"]),
        components=components,
        actor=str(row["actor"]),
        login=str(row["login"]),
        comment=str(row["comment"]),
        at=codec.from_micros(at),
    )
