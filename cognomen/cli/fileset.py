"""Files that belong together, replaced together: a reader that follows one directory never meets a new key beside an old certificate."""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.privatefile import write_private

__all__ = ["write_set"]

_CURRENT = "..data"
_GENERATION = re.compile(r"\.\.[0-9a-f]{16}")


def write_set(directory: Path, private: Mapping[str, bytes], public: Mapping[str, bytes]) -> None:
    """Replace a set of files; the private ones have mode 0600, the public ones 0644.

    Shape: each file is a link into `..data`, which is a link to the directory of this generation; renaming that one link replaces
        the set, as Kubernetes does with secrets.

    Raises:
        Refused: UNAVAILABLE when they cannot be written; what stood there before still does.
    """
    generation = directory / f"..{secrets.token_hex(8)}"
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _one_writer(directory):
            generation.mkdir(mode=0o755)
            for name, data in {**private, **public}.items():
                write_private(generation / name, data)
            for name in public:
                (generation / name).chmod(0o644)
            _link(directory / _CURRENT, generation.name)
            for name in (*private, *public):
                if _target(directory / name) != f"{_CURRENT}/{name}":
                    _link(directory / name, f"{_CURRENT}/{name}")
    except OSError as e:
        raise Refused(
            Kind.UNAVAILABLE,
            f"directory {directory}: {(e.strerror or str(e)).lower()}",
            hint="name a directory that you may write",
        ) from e


@contextlib.contextmanager
def _one_writer(directory: Path) -> Iterator[None]:
    """Let one writer in at a time; after it, remove what is not of the current generation: of the one before, or left by a failure."""
    with contextlib.ExitStack() as leaving:
        held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        leaving.callback(os.close, held)
        fcntl.flock(held, fcntl.LOCK_EX)
        leaving.callback(_sweep, directory)
        yield


def _sweep(directory: Path) -> None:
    current = _target(directory / _CURRENT)
    for path in directory.iterdir():
        if _GENERATION.fullmatch(path.name) and path.name != current:
            shutil.rmtree(path, ignore_errors=True)
        elif (_target(path) or "").startswith(f"{_CURRENT}/") and not path.exists():
            path.unlink(missing_ok=True)


def _target(path: Path) -> str | None:
    return str(path.readlink()) if path.is_symlink() else None


def _link(path: Path, target: str) -> None:
    """Make a link, or replace whatever stands there by it, in one step."""
    temporary = path.with_name(f"..{secrets.token_hex(8)}.link")
    temporary.symlink_to(target)
    temporary.replace(path)
