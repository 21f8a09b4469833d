"""Selectors: one fact about a node or a workload, as `type:value`.

Each type's attestor defines what its values mean; here is only the text.
"""

from dataclasses import dataclass
from typing import Self

from svid.errors import SVIDError

__all__ = ["MAX_SELECTOR_BYTES", "Selector", "SelectorError"]

MAX_SELECTOR_BYTES = 4096


class SelectorError(SVIDError):
    """The text is not a valid selector."""


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """One attested fact: `Selector("unix", "uid:1000")`, written `unix:uid:1000`.

    Raises:
        SelectorError: the type or the value is empty, the type contains a colon, there is a control character, or it is too long
    """

    type: str
    value: str

    def __post_init__(self) -> None:
        if not self.type or not self.value:
            raise SelectorError(f"selector: expected type:value, found {str(self)!r}")
        if ":" in self.type:
            raise SelectorError(f"selector: expected a type without a colon, found {self.type!r}")
        if not str(self).isprintable():
            raise SelectorError(f"selector: expected printable characters, found {str(self)!r}")
        if len(str(self).encode()) > MAX_SELECTOR_BYTES:
            raise SelectorError(
                f"selector: expected at most {MAX_SELECTOR_BYTES} bytes, found {len(str(self).encode())}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `type:value`; the type ends at the first colon."""
        kind, colon, value = text.partition(":")
        if not colon:
            raise SelectorError(f"selector: expected type:value, found {text!r}")
        return cls(kind, value)

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"
