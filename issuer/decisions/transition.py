"""The life of a row as a table: every step from one state to another, and nothing else.

The tables: AUTHORITY_LIFE in authoritylife, NODE_LIFE in admission. docs/explanation/make.py draws them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from cognomen.protocol.errors import Kind, Refused

__all__ = ["Life", "Transition"]

State = TypeVar("State", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition(Generic[State]):
    """One step that is allowed.

    Args:
        before: the state in which it may be taken; None: there is no row yet.
        step: its name.
        after: the state that it leads to; None: the row is deleted.
        when: who takes it, and what must hold.
    """

    before: State | None
    step: str
    after: State | None
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Life(Generic[State]):
    """Every step that a row of one kind may take.

    Args:
        noun: what the row is, for messages.
    """

    noun: str
    transitions: tuple[Transition[State], ...]

    def after(self, state: State | None, step: str, *, name: str = "") -> State:
        """The state to which this step leads.

        Args:
            state: None: there is no row yet.
            name: which row it is, for the message.

        Raises:
            Refused: INTERNAL where the table does not list the step for that state.
        """
        for one in self.transitions:
            if (one.before, one.step) == (state, step) and one.after is not None:
                return one.after
        raise Refused(Kind.INTERNAL, f"{self.noun}: expected one that can be {step}, found {name}, which is {state}")
