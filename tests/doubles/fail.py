"""A step of a double's script that ends a call with a status."""

from dataclasses import dataclass

import grpc

__all__ = ["Fail"]


@dataclass(frozen=True)
class Fail:
    """End the call with this status; OK ends a stream without a word."""

    code: grpc.StatusCode
    detail: str = ""
