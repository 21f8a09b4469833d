"""svid/workloadapi/words: a gate's goodbye, however deep gRPC wraps it. With a real gate: tests/flow/test_turned_away."""

import pytest

from svid.workloadapi.words import answered

GOODBYE = "(GOAWAY received; Error code: 11; Debug Text: {})"
PLAIN = "caller: expected at most 1024 supplementary groups, found 1025"


@pytest.mark.parametrize(
    "reason", [PLAIN, "connections of uid 0 (root): expected at most 8 (in all), found one more (9)"]
)
@pytest.mark.parametrize(
    "around",
    [
        "Connection reset {}",
        "last error: UNAVAILABLE: unix:/s: Endpoint closing ({})",
        "failed (to connect: (Endpoint closing {}))",
    ],
)
def test_a_goodbye_is_read_without_what_grpc_puts_around_it(around: str, reason: str) -> None:
    error = answered("UNAVAILABLE", around.format(GOODBYE.format(reason)))
    assert error.detail == f"the Workload API turned this process away: {reason}"


def test_other_words_stay_as_they_are() -> None:
    error = answered("UNAVAILABLE", "Connection reset (by peer)")
    assert (error.detail, error.hint) == ("the Workload API answered UNAVAILABLE: Connection reset (by peer)", "")


def test_a_web_server_is_called_one() -> None:
    error = answered("UNIMPLEMENTED", "Received http2 header with status: 404")
    assert "speaks HTTP, not gRPC" in error.hint
