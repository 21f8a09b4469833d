"""The X509-SVID of this process, and the bundles of its peers.

A source follows the Workload API in its own thread. Ask it each time: it always has the current values.

Names: X509Source, X509SVID, X509Context, Bundle
"""

from pathlib import Path

from svid import X509SVID, Bundle, TrustDomain, X509Context, X509Source

with X509Source() as source:  # in asyncio: with await X509Source.connect() as source
    svid: X509SVID = source.svid
    print(svid.spiffe_id, f"{svid.serial:x}", svid.not_after)
    context: X509Context = source.context  # all that this process has; the first is the default
    print([str(one.spiffe_id) for one in context.svids])

    bundle = source.bundles[TrustDomain("example.org")]
    Path("bundle.pem").write_bytes(bundle.to_pem())
    assert Bundle.from_pem(bundle.trust_domain, bundle.to_pem()).x509_authorities == bundle.x509_authorities
    assert len(svid.chain) == 1  # the leaf, and intermediates if there are any

with X509Source(pick=lambda svids: next(one for one in svids if one.spiffe_id.path == "/web")) as source:
    assert source.svid.spiffe_id.path == "/web"
