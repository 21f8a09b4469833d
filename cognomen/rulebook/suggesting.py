"""Which known word may have been meant by one that nobody knows, in time that does not depend on how many are known.

Few words are compared one by one (difflib). Of many, those are found that become the same when a character is left out of each, or of one
of them: that finds a character that is wrong, missing, too many, or in the wrong place.
"""

from collections.abc import Collection, Iterator
from difflib import get_close_matches

__all__ = ["Known", "suggestion"]

_FEW = 100
_MOST_SHOWN = 12
_LONGEST = 128
_MOST_CHARACTERS = 1_000_000  # of all words that are indexed; the index has some fifty times as many


class Known:
    """The words of one kind that are known, for many questions."""

    def __init__(self, words: Collection[str]) -> None:
        self._words = words
        self._index: dict[str, str] | None = None

    def suggestion(self, word: str) -> str:
        """The known word that may have been meant, as a question; or all of them, if they are few."""
        if near := self._near(word):
            return f"did you mean {near}?"
        return f"known: {', '.join(sorted(self._words))}" if 0 < len(self._words) <= _MOST_SHOWN else ""

    def _near(self, word: str) -> str:
        if len(word) > _LONGEST:
            return ""
        if len(self._words) <= _FEW:
            return next(iter(get_close_matches(word, self._words, n=1)), "")
        if self._index is None:
            self._index = {}
            if sum(map(len, self._words)) <= _MOST_CHARACTERS:
                for known in self._words:
                    for one in _without_one(known):
                        self._index.setdefault(one, known)
        return next((self._index[one] for one in _without_one(word) if one in self._index), "")


def suggestion(word: str, known: Collection[str]) -> str:
    """As `Known.suggestion`, for one question."""
    return Known(known).suggestion(word)


def _without_one(word: str) -> Iterator[str]:
    """The word, and the word without each of its characters."""
    yield word
    for at in range(len(word)):
        yield word[:at] + word[at + 1 :]
