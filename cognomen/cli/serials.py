"""Convert serial numbers from the ways that people write them to the way that the ledger does."""

__all__ = ["serial_from_text"]


def serial_from_text(text: str) -> str:
    """Convert a serial as OpenSSL and others write it (colons, capitals, 0x), or a jti, to the form in the ledger."""
    return text.replace(":", "").lower().removeprefix("0x").lstrip("0") or text
