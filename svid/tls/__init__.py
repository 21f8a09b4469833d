"""Mutual TLS by SPIFFE IDs: who may be on the other side (authorize), and contexts that follow every rotation (context).

Where identity and bundles come from is a source's business (svid/source).
"""
