"""A JWT-SVID in front of an ASGI app.

`JWTGuard` answers a request without a valid token 401, and one from a workload that is not allowed 403.

Names: JWTGuard
"""

import asyncio

import httpx
from fastapi import FastAPI, Request

from svid import JWTGuard, JWTSource, exactly

app = FastAPI()


@app.get("/")
def hello(request: Request) -> str:
    return f"hello, {request.state.jwt_svid.spiffe_id}"


async def ask(headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bookings") as client:
        return await client.get("/", headers=headers)


with JWTSource() as source:
    app.add_middleware(JWTGuard, source=source, audience="bookings", authorize=exactly("spiffe://example.org/web"))
    assert asyncio.run(ask({})).status_code == 401
    token = source.fetch("bookings").token
    print(asyncio.run(ask({"authorization": f"Bearer {token}"})).json())
