"""The client side of the SPIFFE Workload API: its address, its calls, the streams that we follow, and their latest values.

svid/wire/workload decides what the messages mean, and svid/tls which peers are allowed.
"""
