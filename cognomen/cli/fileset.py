"""Files that belong together, replaced together: a reader that follows one directory never meets a new key beside an old certificate."""

import re
import secrets
import shutil
from collections.abc import Mapping
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
    useless: Path | None = (
        generation  # what is removed in the end: this generation if it does not become current, else the one before
    )
    try:
        generation.mkdir(mode=0o755, parents=True)
        for name, data in {**private, **public}.items():
            write_private(generation / name, data)
        for name in public:
            (generation / name).chmod(0o644)
        before = _target(directory / _CURRENT)
        _link(directory / _CURRENT, generation.name)
        useless = directory / before if before and _GENERATION.fullmatch(before) else None
        for name in (*private, *public):
            if _target(directory / name) != f"{_CURRENT}/{name}":
                _link(directory / name, f"{_CURRENT}/{name}")
    except OSError as e:
        raise Refused(
            Kind.UNAVAILABLE,
            f"directory {directory}: {(e.strerror or str(e)).lower()}",
            hint="name a directory that you may write",
        ) from e
    finally:
        if useless is not None:
            shutil.rmtree(useless, ignore_errors=True)


def _target(path: Path) -> str | None:
    return str(path.readlink()) if path.is_symlink() else None


def _link(path: Path, target: str) -> None:
    """Make a link, or replace whatever stands there by it, in one step."""
    temporary = path.with_name(f"..{secrets.token_hex(8)}.link")
    temporary.symlink_to(target)
    temporary.replace(path)
