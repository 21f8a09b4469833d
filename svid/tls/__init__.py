"""Mutual TLS with SPIFFE IDs: authorizers, which decide who may connect (authorize), and contexts that follow every rotation (context).

Sources (svid/source) provide the identity and the bundles. Nothing here depends on a framework; those are in svid/integrations.
"""
