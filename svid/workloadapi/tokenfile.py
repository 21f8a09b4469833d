"""What an application holds of a file with a token. svid/workloadapi/filekeeper keeps the file up to date."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["TokenFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """A file that holds a JWT-SVID for one audience, from `JWTSource.file`; it has a new token at half of the old one's life.

    It is in a directory of its own that only this user can open, in memory where the system has such a place ($XDG_RUNTIME_DIR or
    /dev/shm), has mode 0600, and is replaced as a whole. `with` gives its path; `str()` and whatever takes a path do as well.

    The file goes at once if the token is revoked or the identity taken away, and when the token expires before a newer one comes; it
    is there again with the next token. It goes for good at `close`, at the end of the `with`, when the source is closed, and when the
    program ends. Only what a killed program left stays, until the next program of this user makes such a file.

    A forked child can read the parent's file, but neither renews nor removes it.

    Attributes:
        path: where it is.
    """

    path: Path
    _close: Callable[[], None] = field(repr=False)

    def __fspath__(self) -> str:
        """The path, for `open` and the like."""
        return str(self.path)

    def __str__(self) -> str:
        """The path, for a variable of the environment."""
        return str(self.path)

    def __enter__(self) -> Path:
        """Return the path."""
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file for good; a second call does nothing."""
        self._close()
