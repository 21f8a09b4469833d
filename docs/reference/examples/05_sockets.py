"""Mutual TLS on sockets of the standard library.

Both functions make a `LiveContext`: an `ssl.SSLContext` that follows every rotation and refuses what was revoked.

Names: server_context, client_context, LiveContext, peer_id
"""

import socket
import ssl
import threading

from svid import LiveContext, X509Source, any_in, client_context, exactly, peer_id, server_context

with X509Source() as source:
    serving: LiveContext = server_context(source, any_in("example.org"))
    calling: ssl.SSLContext = client_context(source, exactly("spiffe://example.org/web"))

    with serving.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(f"hello, {peer_id(connection)}".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        with calling.wrap_socket(socket.create_connection(listener.getsockname())) as connection:
            print(connection.recv(100).decode())
        thread.join()
