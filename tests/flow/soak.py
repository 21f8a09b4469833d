"""Whether this is `make soak`, which does for long what `make test` does shortly."""

import os

__all__ = ["IS_SOAK", "TIMEOUT"]

IS_SOAK = os.environ.get("COGNOMEN_SOAK") == "1"
TIMEOUT = 1200 if IS_SOAK else 120
