"""Integrations of frameworks and libraries with SPIFFE mutual TLS or JWT-SVIDs: one module for each.

They share the same rules. svid/tls decides which peers are allowed and what ends a connection; svid/jwtsvid decides whether a token is
valid. No module imports another one's library. docs/how-to/protect-a-service.md compares them.
"""
