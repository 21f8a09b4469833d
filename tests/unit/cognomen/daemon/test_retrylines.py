"""What is logged of something that fails again and again."""

import structlog
from structlog.testing import capture_logs

from cognomen.daemon.retrylines import RetryLines

log = structlog.get_logger()


def test_each_of_many_has_lines_of_its_own_for_the_same_reason() -> None:
    lines = RetryLines("signed again")
    with capture_logs() as logs:
        for of in ("x509-1", "x509-2", "x509-1"):
            lines.failed(log.warning, "not signed", 0.0, reason="no key", of=of, authority=of)
    assert [one["authority"] for one in logs] == ["x509-1", "x509-2"]
