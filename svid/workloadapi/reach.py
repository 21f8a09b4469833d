"""Explains why nobody answers at a Unix socket; it probes the socket itself, because gRPC keeps trying and has its own wording.

The caller decides what to do about it: a source keeps trying, a command ends.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

from svid.errors import WorkloadAPIError

__all__ = ["NO_ATTESTOR", "Trouble", "explained", "is_nobodys_answer", "socket_trouble", "workload_trouble"]

NO_ATTESTOR = "is an attestor running there, and has it joined? if it serves another socket, set SPIFFE_ENDPOINT_SOCKET=unix:///PATH"
_STUCK = "is the attestor stopped or stuck? to check it: cognomen attestor healthcheck"
_ALIVE = "the attestor runs, but has nothing valid for this process yet; to see why: cognomen status attestor"
_WHAT = "workload socket"
_NOBODYS_WORDS = ("timed out before receiving SETTINGS", "Channel closed!")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a socket cannot be used.

    Attributes:
        hint: what to do next.
        is_denied: whether this process may not connect.
    """

    detail: str
    hint: str
    is_denied: bool


def socket_trouble(path: Path, what: str, *, expected: str, hint: str, denied_hint: str) -> Trouble | None:
    """Connect to a Unix socket and disconnect again; None if somebody listens.

    Args:
        what: a name for the socket, in words.
        expected: what should listen there.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:  # somebody listens, but is slow to accept
            return None
        except PermissionError as e:
            if _is_no_socket(path):
                return Trouble(
                    detail=f"{what} {path}: expected {expected}, found {_found(e, path)}", hint=hint, is_denied=False
                )
            detail = f"{what} {path}: uid {os.geteuid()} has no permission to use it"
            return Trouble(detail=detail, hint=denied_hint, is_denied=True)
        except OSError as e:
            return Trouble(
                detail=f"{what} {path}: expected {expected}, found {_found(e, path)}", hint=hint, is_denied=False
            )
    return None


def workload_trouble(target: str) -> Trouble | None:
    """Probe the Workload API at a gRPC target; None if somebody listens, or if it is not a Unix socket."""
    scheme, _, quoted = target.partition(":")
    if scheme != "unix":
        return None
    path = Path(unquote(quoted))
    trouble = socket_trouble(path, _WHAT, expected="an attestor that listens", hint=NO_ATTESTOR, denied_hint="")
    return replace(trouble, hint=_way_in(path)) if trouble is not None and trouble.is_denied else trouble


def _way_in(path: Path) -> str:
    """What must change for this user to reach a socket: a directory above it, or its own permissions."""
    for directory in reversed(path.absolute().parents):
        if not os.access(directory, os.X_OK, effective_ids=True):
            return f"the directory {directory} must let this user enter"
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if not os.access(path, os.W_OK, effective_ids=True):
            return f"its own permissions must let this user write: an attestor makes it with mode 0666, and it has {mode:04o}"
    return "something other than permissions, such as a security module, must let this user connect"


def is_nobodys_answer(error: WorkloadAPIError) -> bool:
    """Whether gRPC itself made this error: it received nothing for 20 s, or we dropped a silent connection."""
    return any(words in error.detail for words in _NOBODYS_WORDS)


def explained(
    error: WorkloadAPIError,
    target: str,
    waited: timedelta,
    *,
    is_silent: bool = False,
    answers: Callable[[], bool] = lambda: False,
) -> WorkloadAPIError:
    """Explain why no answer came, if we can find out; return any other error unchanged.

    Args:
        is_silent: whether nothing at all came.
        answers: asks whether the Workload API answers another call now; if so, it is not stuck, but has no answer to this call.
    """
    if not is_silent and error.code not in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        return error
    code = error.code if error.code == "DEADLINE_EXCEEDED" else "UNAVAILABLE"
    trouble = workload_trouble(target)
    if trouble is not None:
        return WorkloadAPIError(trouble.detail, code=code, hint=trouble.hint)
    if error.code == "DEADLINE_EXCEEDED" or is_silent:
        where = unquote(target.removeprefix("unix:"))
        detail = f"{_WHAT} {where}: no answer within {waited.total_seconds():g} s"
        return WorkloadAPIError(detail, code=code, hint=_ALIVE if answers() else _STUCK)
    return error


def _is_no_socket(path: Path) -> bool:
    try:
        return not path.is_socket() and path.exists()
    except OSError:  # we may not look
        return False


def _found(error: OSError, path: Path) -> str:
    if error.errno == errno.ENOENT:
        return "none"
    if error.errno is not None and _is_no_socket(path):
        return "a file that is not a socket"
    return "a path too long for a socket" if error.errno is None else (error.strerror or str(error)).lower()
