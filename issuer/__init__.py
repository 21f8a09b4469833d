"""The issuer: decides, signs, remembers, feeds the attestors."""
