"""The files of a rulebook, read and checked for a command."""

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from cognomen.cli.cells import text_of
from cognomen.cli.options import GivenPath
from cognomen.cli.output import counted, print_json
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.faults import counted_faults
from cognomen.rulebook.filenames import MOST_FILES, check_file_name
from cognomen.rulebook.reading import MOST_BYTES
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.whole import read_whole
from svid.encoding import JSON

__all__ = ["checked", "content_of", "content_of_all", "rules_and_files", "rules_argument", "rules_from", "texts_of"]

_MOST_PLAN_BYTES = 2 * MOST_BYTES
_MOST_SHOWN = 100

rules_argument = click.argument("rules", metavar="RULES", type=GivenPath())
"""The rulebook: a file, or a folder with files `*.toml`."""


def rules_from(path: Path) -> Rulebook:
    """Read a rulebook; every fault is printed.

    Raises:
        Refused: NOT_FOUND when there is no such file; INVALID when there is a fault, or a file cannot be read.
    """
    return checked(path, content_of_all(path))


def rules_and_files(path: Path, *, empty: Mapping[str, JSON] | None = None) -> tuple[Rulebook, dict[str, str]]:
    """Read a rulebook, as `rules_from`; also returns the contents of its files, by their names alone.

    Args:
        empty: the JSON document in which the faults are printed; None: they are printed as lines.
    """
    content = content_of_all(path)
    return checked(path, content, empty=empty), texts_of(content)


def texts_of(content: Mapping[str, bytes]) -> dict[str, str]:
    """The files by their names alone; one that is not UTF-8 is damaged here, and refused by `checked`."""
    return {Path(name).name: one.decode(errors="replace") for name, one in content.items()}


def checked(path: Path, files: Mapping[str, bytes], *, empty: Mapping[str, JSON] | None = None) -> Rulebook:
    """Read the files of a rulebook; every fault is printed.

    Args:
        empty: as `rules_and_files`.

    Raises:
        Refused: INVALID when there is a fault.
    """
    rulebook, faults = read_whole(files)
    if not faults:
        return rulebook
    more = ""
    if empty is not None:
        print_json({**empty, "faults": [asdict(one) for one in faults]})
    else:
        for fault in faults[:_MOST_SHOWN]:
            click.echo(text_of(str(fault)), err=True)
        more = f"; the first {_MOST_SHOWN} are shown" if len(faults) > _MOST_SHOWN else ""
    raise Refused(Kind.INVALID, f"{path}: {counted(counted_faults(faults), 'fault')} in the rulebook{more}")


def content_of_all(path: Path) -> dict[str, bytes]:
    """The files of a rulebook, by their paths.

    Raises:
        Refused: NOT_FOUND when there is none; INVALID when one cannot be read.
    """
    if not os.path.isdir(path):  # noqa: PTH112 - False also for what may not be looked at
        _check_file_name(path)
        return {str(path): _content(path, MOST_BYTES)}
    try:
        found = sorted(one for one in path.iterdir() if one.suffix == ".toml" and not one.name.startswith("."))
    except OSError as e:
        raise _unread(path, e) from e
    if not found:
        raise Refused(Kind.NOT_FOUND, f"{path}: expected files *.toml, found none")
    if len(found) > MOST_FILES:
        raise Refused(Kind.INVALID, f"{path}: expected at most {MOST_FILES} files, found {len(found)}")
    files: dict[str, bytes] = {}
    left = MOST_BYTES
    for one in found:
        _check_file_name(one)
        files[str(one)] = content = _content(one, left)
        left -= min(left, len(content))
    total = sum(map(len, files.values()))
    with_names = total + sum(len(os.fsencode(one.name)) for one in found)
    if (
        total <= MOST_BYTES < with_names
    ):  # without their names, all faults are told together (cognomen/rulebook/reading)
        problem = f"expected at most {MOST_BYTES} bytes in all files and their names, found {with_names}"
        raise Refused(Kind.INVALID, f"{path}: {problem}")
    return files


def _check_file_name(path: Path) -> None:
    """Check a name that the issuer keeps with the file."""
    name = os.fsencode(path.name)
    try:
        text = name.decode()
    except UnicodeDecodeError as e:
        found = f"found the byte 0x{name[e.start]:02x}"
        raise Refused(
            Kind.INVALID, f"{_shown(path)}: expected a file name in UTF-8, {found}", hint="rename the file"
        ) from e
    try:
        check_file_name(text)
    except ValueError as e:
        raise Refused(Kind.INVALID, f"{_shown(path)}: {e}", hint="rename the file") from e


def _shown(path: Path) -> str:
    return text_of(os.fsencode(path).decode(errors="backslashreplace"))


def content_of(path: Path) -> bytes:
    """A file of one rulebook, such as a saved plan, which has all of it.

    Raises:
        Refused: it cannot be read, or is too large.
    """
    content = _content(path, _MOST_PLAN_BYTES)
    if len(content) > _MOST_PLAN_BYTES:
        raise Refused(Kind.INVALID, f"{path}: expected at most {_MOST_PLAN_BYTES} bytes, found more")
    return content


def _content(path: Path, most: int) -> bytes:
    """A file, up to one byte more than it may have. Nobody can make us wait by what he puts there."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused(Kind.INVALID, f"{path}: expected a regular file")
            return file.read(most + 1)
    except OSError as e:
        raise _unread(path, e) from e


def _unread(path: Path, error: OSError) -> Refused:
    if error.errno == errno.ENOENT:
        return Refused(Kind.NOT_FOUND, f"{path}: no such file or directory")
    return Refused(Kind.INVALID, f"{path}: {(error.strerror or str(error)).lower()}")
