"""Who gives a command, as the audit record names them, and what it says about them beyond that."""

from typing import Self

__all__ = ["Operator", "comment_of"]


class Operator(str):
    """The uid on the admin socket, as every actor is named: `uid:1000`. It is that text everywhere but in the audit record's row.

    Attributes:
        login: the uid that logged in, which stays the same through su and sudo, as `uid:1000`; empty: nobody logged in.
        comment: why, in the operator's words; empty: not said.
    """

    __slots__ = ("comment", "login")

    login: str
    comment: str

    def __new__(cls, name: str, *, login: str = "", comment: str = "") -> Self:
        """Make one."""
        operator = super().__new__(cls, name)
        operator.login = login
        operator.comment = comment
        return operator


def comment_of(actor: str) -> str:
    """What an actor gave as the reason; empty: nothing, or it is no operator."""
    return actor.comment if isinstance(actor, Operator) else ""
