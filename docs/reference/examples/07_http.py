"""HTTP over mutual TLS: a server with uvicorn, and four clients.

The clients send a request only to a server that the authorizer admits, and nothing over plain `http://`.

Names: uvicorn_mtls, httpx_client, httpx_async_client, requests_session, urllib_opener
"""

import asyncio
import socket
import threading

import uvicorn
from fastapi import FastAPI, Request

from svid import X509Source, exactly, httpx_async_client, httpx_client, requests_session, urllib_opener, uvicorn_mtls

app = FastAPI()


@app.get("/")
async def hello(request: Request) -> str:
    return f"hello, {request.state.peer}"


async def ask(source: X509Source, url: str) -> str:
    async with httpx_async_client(source, exactly("spiffe://example.org/web")) as client:
        return (await client.get(url)).text


with X509Source() as source, socket.create_server(("127.0.0.1", 0)) as listener:
    web = exactly("spiffe://example.org/web")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **uvicorn_mtls(source, web)))
    serving = threading.Thread(target=server.run, args=([listener],))
    serving.start()

    url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
    with httpx_client(source, web) as client:
        print(client.get(url).text)
    print(asyncio.run(ask(source, url)))
    with requests_session(source, web) as session:
        print(session.get(url, timeout=10).text)
    with urllib_opener(source, web).open(url, timeout=10) as response:
        print(response.read().decode())

    server.should_exit = True
    serving.join()
