"""How people write serial numbers, and how the ledger does."""

__all__ = ["serial_from_text"]


def serial_from_text(text: str) -> str:
    """Take a serial as OpenSSL and others write it (colons, capitals, 0x), or a jti, for what stands in the ledger."""
    return text.replace(":", "").lower().removeprefix("0x").lstrip("0") or text
