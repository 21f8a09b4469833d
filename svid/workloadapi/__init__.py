"""The SPIFFE Workload API from the caller's side: where it is, how it is called, how its streams are followed, what was heard last.

What its messages mean is svid/wire/workload's; who may be on the other side of a connection is svid/tls's.
"""
