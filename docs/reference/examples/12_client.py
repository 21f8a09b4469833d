"""The Workload API, one call at a time.

A source is the better choice for everything that runs for longer than a moment.

Names: WorkloadAPIClient, WorkloadAPIError, AddressError
"""

from svid import AddressError, WorkloadAPIClient, WorkloadAPIError

with WorkloadAPIClient() as client:  # the socket is in SPIFFE_ENDPOINT_SOCKET
    print([str(svid.spiffe_id) for svid in client.fetch_x509_context().svids])
    token = client.fetch_jwt_svid("bookings").token
    assert str(client.validate_jwt_svid(token, "bookings").spiffe_id) == "spiffe://example.org/web"

try:
    WorkloadAPIClient("unix://not/absolute")
except AddressError as e:
    print(e)

with WorkloadAPIClient("unix:///nobody/is/here.sock") as client:
    try:
        client.fetch_x509_context()
    except WorkloadAPIError as e:
        assert e.code == "UNAVAILABLE"
        print(e)
