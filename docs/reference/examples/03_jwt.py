"""Tokens: fetch one as a caller, check one as a service.

`verify_bearer` takes the value of an `Authorization` header. For an ASGI app there is `JWTGuard`, for gRPC `BearerCheck`.

Names: JWTSource, JWTSVID, JWTSVIDError, verify_bearer
"""

from svid import JWTSVID, JWTSource, JWTSVIDError, exactly, verify_bearer

with JWTSource() as source:
    svid: JWTSVID = source.fetch("bookings")
    header = f"Bearer {svid.token}"

    caller = verify_bearer(header, source, audience="bookings", authorize=exactly("spiffe://example.org/web"))
    assert caller.spiffe_id == svid.spiffe_id
    assert caller.audiences == ("bookings",)
    print(caller.expires_at, caller.jti)

    try:
        source.verify(svid.token, "mail")
    except JWTSVIDError as e:
        print(e, e.clause)
