"""The thread that keeps the file of a token up to date until somebody closes it, its source is closed, or the program ends.

svid/workloadapi/keptfile decides what is in the file; svid/workloadapi/tokenfile is what the application sees.
"""

import atexit
import logging
import threading
from collections.abc import Callable

from svid.workloadapi.forks import forks
from svid.workloadapi.keptfile import KeptFile

__all__ = ["FileKeeper"]

_AFTER_A_FAULT_SECONDS = 5.0

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class FileKeeper:
    """Keeps one file. In a forked child, it does nothing: the thread is not there, and the file is the parent's.

    Args:
        on_end: called with this object when the file has been removed for good and the thread has ended, or never began.
    """

    def __init__(self, kept: KeptFile, on_end: Callable[["FileKeeper"], None]) -> None:
        self._kept = kept
        self._on_end = on_end
        self._generation = forks.generation
        self._leaves: tuple[Callable[[], None], ...] = ()
        self._woken = threading.Event()
        self._is_ended = False
        self._thread = threading.Thread(target=self._run, name="svid-token-file", daemon=True)
        atexit.register(self.close)

    def follow(self, *leaves: Callable[[], None]) -> None:
        """Begin; `leaves` are called at the end."""
        self._leaves = leaves
        self.look()
        self._thread.start()

    def look(self) -> None:
        """Remove a token that verifiers refuse now, at once; the thread fetches another one.

        Raises:
            OSError: it cannot be removed.
        """
        if self._kept.look():
            self._woken.set()

    def change(self, *, is_gone: bool) -> None:
        """Do the same after a change of the bundles, or when the identity was taken away.

        Raises:
            OSError: as `look`.
        """
        if self._kept.change(is_gone=is_gone):
            self._woken.set()

    def close(self) -> None:
        """Remove the file for good; a second call does nothing."""
        if self._generation != forks.generation:
            return
        self._is_ended = True
        self._kept.close()
        self._woken.set()
        for leave in self._leaves:
            leave()
        atexit.unregister(self.close)
        if self._thread.ident is None:
            self._on_end(self)

    def join(self) -> None:
        """Wait until the thread has ended, after `close`."""
        is_other = threading.current_thread() is not self._thread
        if self._generation == forks.generation and is_other and self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._is_ended:
            try:
                pause = self._kept.step()
            except Exception:  # noqa: BLE001 - if this thread died, the file would silently keep an old token
                _log.exception("token file failed")
                pause = _AFTER_A_FAULT_SECONDS
            self._woken.wait(pause)
            self._woken.clear()
        self._on_end(self)
