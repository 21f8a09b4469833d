"""Who may call us, as the rulebook says.

An authorizer for services: it admits the components whose `may_call` names us, and follows the rulebook as it is applied.

Names: declared, Declared
"""

from svid import AuthorizationError, Declared, SpiffeID, X509Source, declared, server_context

orchestrator = SpiffeID.parse("spiffe://example.org/agent/concierge/orchestrator")

with X509Source() as source:
    authorize: Declared = declared(source)
    authorize.wait()  # for the first answer; in asyncio: await authorize.ready()
    context = server_context(source, authorize)  # or uvicorn_mtls, PeerCheck, …

    try:
        authorize(orchestrator)
    except AuthorizationError as e:
        print(e)  # this entry is none of a rulebook's: no rule declares who may call it
