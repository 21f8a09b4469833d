"""Conditions for the rows of the ledger that a revocation names."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from issuer.datastore.sqlite import codec
from issuer.decisions.revocation import Live

__all__ = ["Argument", "Rows", "condition_of"]

Argument: TypeAlias = str | int


class Rows(NamedTuple):
    """Rows of the ledger: a condition, from which row on they are, and which of them to take if there are too many.

    Args:
        first: bounds what an index finds by entry, node or SPIFFE ID.
    """

    condition: str
    first: str
    order: str = ""


def condition_of(
    rows: Rows, where: Live, given: Mapping[str, int] | Mapping[str, Argument]
) -> tuple[str, dict[str, Argument]]:
    """The condition for those of these rows that `where` names, with its arguments and those that were given."""
    conditions = [
        rows.condition,
        "state <> 'failed'",
        "kind IN (SELECT value FROM json_each(:kinds))",
    ]
    arguments: dict[str, Argument] = {**given, "kinds": codec.texts_to_json(sorted(where.kinds))}
    named = {"serial": where.serials, "entry_id": where.entry_ids, "node_id": where.node_ids}
    lists = {column: values for column, values in named.items() if values is not None}
    among = [
        f"(number >= {rows.first} AND {column} IN (SELECT value FROM json_each(:{column})))"  # noqa: S608 - our own names
        for column in lists
    ]  # repeat the bound: an index that serves one part of an OR knows no other condition
    arguments |= {column: codec.texts_to_json(values) for column, values in lists.items()}
    conditions += [f"({' OR '.join(among)})"] if where.any_of else among
    if where.spiffe_id is not None:
        arguments["spiffe_id"] = str(where.spiffe_id)
        if where.below:  # `+`: search the rows that may be live, not all that were ever below; `0` follows `/`
            conditions.append(
                "(+spiffe_id = :spiffe_id OR (+spiffe_id > :spiffe_id || '/' AND +spiffe_id < :spiffe_id || '0'))"
            )
        else:
            conditions.append(f"number >= {rows.first} AND spiffe_id = :spiffe_id")
    if where.issued_until is not None:
        # An iat is in whole seconds. A row from the future was signed before now, while the clock was ahead, and nobody knows when.
        conditions.append(
            "(iif(kind = 'jwt', issued_at - issued_at % 1000000, issued_at) <= :issued_until OR issued_at > :now)"
        )
        arguments["issued_until"] = codec.to_micros(where.issued_until)
    return " AND ".join(conditions), arguments
