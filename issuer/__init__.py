"""The issuer: it decides, signs, stores, and feeds the attestors."""
