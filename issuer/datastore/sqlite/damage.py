"""Check whether a database is whole: in a running store, before a backup, and after a restore."""

import sqlite3

from issuer.datastore.sqlite.faults import is_damage

__all__ = ["damage"]

_MOST_FINDINGS = 3


def damage(connection: sqlite3.Connection, *, thorough: bool = False) -> str:
    """Read every page, and return what is damaged; empty: nothing.

    Args:
        thorough: also check that each index matches its table, which takes several times as long.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    pragma = "integrity_check" if thorough else "quick_check"
    try:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}({_MOST_FINDINGS:d})")]
    except sqlite3.Error as e:
        if not is_damage(e):
            raise
        return str(e)
    return "" if found == ["ok"] else "; ".join(line.strip().replace("\n", "; ") for line in found)
