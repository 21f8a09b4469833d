"""Strangers who begin to connect but never finish: `python -m bench.strangers host:port COUNT ADDRESSES`.

This is a separate process, so that its open connections belong to nobody else. It prints `open` once it has dialled COUNT connections,
holds as many as the door permits, and dials again for each that the door ends, 2,000 a second at most, until its standard input ends.
"""

import itertools
import selectors
import socket
import sys
import time

from bench.rig.strangers import addresses, client_hello, dial

__all__: list[str] = []

_STEP_SECONDS = 0.01
_DIALS_PER_STEP = 20


def _main(target: str, count: int, places: int) -> None:
    hello, selector, dialled = client_hello(), selectors.DefaultSelector(), 0
    selector.register(sys.stdin, selectors.EVENT_READ)
    place = itertools.cycle(addresses(places))
    while True:
        began = time.perf_counter()
        for _ in range(min(_DIALS_PER_STEP, count + 1 - len(selector.get_map()))):
            selector.register(dial(target, next(place)), selectors.EVENT_WRITE)
            dialled += 1
            if dialled == count:
                print("open", flush=True)
        for key, _ in selector.select(0):
            if not isinstance(key.fileobj, socket.socket):
                return
            if not _goes_on(selector, key.fileobj, hello if key.events == selectors.EVENT_WRITE else b""):
                selector.unregister(key.fileobj)
                key.fileobj.close()
        time.sleep(max(0.0, began + _STEP_SECONDS - time.perf_counter()))


def _goes_on(selector: selectors.BaseSelector, sock: socket.socket, hello: bytes) -> bool:
    """Send the first bytes, or read what the door sends; False: the connection has ended."""
    try:
        if not hello:
            return bool(sock.recv(65_536))
        sock.send(hello)
    except OSError:
        return False
    selector.modify(sock, selectors.EVENT_READ)
    return True


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
