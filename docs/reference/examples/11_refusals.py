"""Who was refused, and why.

The peer learns only that it was refused. The service gets a line in its log, a count, and a call of `on_refused`.

Names: Refusal, Reason, refusal_counts
"""

from svid import AuthorizationError, JWTSource, Reason, Refusal, any_in, refusal_counts, verify_bearer

noted: list[Refusal] = []

with JWTSource() as source:
    header = f"Bearer {source.fetch('bookings').token}"
    elsewhere = any_in("example.com")
    try:
        verify_bearer(header, source, audience="bookings", authorize=elsewhere, on_refused=noted.append)
    except AuthorizationError:
        (refusal,) = noted
        print(refusal.point, refusal.reason, refusal.peer, refusal.detail)

assert refusal_counts()["verify_bearer", Reason.NOT_ALLOWED] == 1
