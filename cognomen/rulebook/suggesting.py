"""Which known word may have been meant by one that nobody knows, in time that does not depend on how many are known.

Few words are compared one by one (difflib). Of many, those are found that become the same when a character is left out of each, or of one
of them: that finds a character that is wrong, missing, too many, or in the wrong place.
"""

from collections.abc import Collection, Iterator
from difflib import get_close_matches

__all__ = ["Known", "suggestion"]

_FEW = 100
_MOST_SHOWN = 12
_MOST_ALIKE = 2  # so that there is another one if one was not meant
_LONGEST = 128
_MOST_CHARACTERS = 1_000_000  # of all words that are indexed; the index has some fifty times as many


class Known:
    """The words of one kind that are known, for many questions."""

    def __init__(self, words: Collection[str]) -> None:
        self._words = words
        self._index: dict[str, list[str]] | None = None

    def suggestion(self, word: str, *, but: str = "") -> str:
        """The known word that may have been meant, as a question; or all of them, if they are few.

        Args:
            but: a known word that was not meant.
        """
        if near := self._near(word, but):
            return f"did you mean {near}?"
        if len(self._words) > _MOST_SHOWN:
            return ""
        known = sorted(one for one in self._words if one != but)
        return f"known: {', '.join(known)}" if known else ""

    def _near(self, word: str, but: str) -> str:
        if len(word) > _LONGEST:
            return ""
        if len(self._words) <= _FEW:
            return next(iter(get_close_matches(word, [one for one in self._words if one != but], n=1)), "")
        if self._index is None:
            self._index = _index(self._words)
        return next((known for one in _without_one(word) for known in self._index.get(one, ()) if known != but), "")


def suggestion(word: str, known: Collection[str]) -> str:
    """As `Known.suggestion`, for one question."""
    return Known(known).suggestion(word)


def _index(words: Collection[str]) -> dict[str, list[str]]:
    """Some of the known words by what they become when a character is left out."""
    found: dict[str, list[str]] = {}
    if sum(map(len, words)) <= _MOST_CHARACTERS:
        for known in words:
            for one in _without_one(known):
                same = found.setdefault(one, [])
                if len(same) < _MOST_ALIKE and known not in same:
                    same.append(known)
    return found


def _without_one(word: str) -> Iterator[str]:
    """The word, and the word without each of its characters."""
    yield word
    for at in range(len(word)):
        yield word[:at] + word[at + 1 :]
