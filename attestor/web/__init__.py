"""What the attestor serves over HTTP."""
