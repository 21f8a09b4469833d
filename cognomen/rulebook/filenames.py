"""What the files of a rulebook may be called, how many they may be, and how long: the issuer keeps them with their names and shows them.

The command and the issuer's admin door check the same. What is in a file: `reading`.
"""

from collections.abc import Mapping

from cognomen.protocol.printable import is_visible, printable
from cognomen.rulebook.reading import MOST_BYTES

__all__ = ["MOST_FILES", "MOST_NAME_BYTES", "check_file_name", "check_files"]

MOST_FILES = 10_000
"""How many files a rulebook may have."""

MOST_NAME_BYTES = 255
"""How long the name of a file may be, as on most file systems."""

_MOST_SHOWN = 80


def check_file_name(name: str) -> None:
    """Check the name of a file, without its folder.

    Raises:
        ValueError: the issuer cannot keep or show it.
    """
    if not name.isprintable() or not is_visible(name):  # also when it is empty
        raise ValueError("expected a file name of printable characters")
    if (length := len(name.encode())) > MOST_NAME_BYTES:
        raise ValueError(f"expected a file name of at most {MOST_NAME_BYTES} bytes, found {length}")
    if "/" in name or name in {".", ".."}:
        raise ValueError("expected the name of a file without its folder")


def check_files(files: Mapping[str, str]) -> None:
    """Check the names of all files, how many there are, and how long they are together.

    Raises:
        ValueError: one of these; the name is shown cut off.
    """
    if len(files) > MOST_FILES:
        raise ValueError(f"expected at most {MOST_FILES} files, found {len(files)}")
    for name in files:
        try:
            check_file_name(name)
        except ValueError as e:
            raise ValueError(f"{printable(name, most=_MOST_SHOWN)!r}: {e}") from e
    total = sum(len(name.encode()) + len(text.encode()) for name, text in files.items())
    if total > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES} bytes in all files and their names, found {total}")
