"""What the attestor says over HTTP."""
