"""Makes one call that nobody answers, pings meanwhile, and tells how the call ended.

Arguments: the server's address, the milliseconds from ping to ping, the seconds that the call may take.
"""

import sys

import grpc

address, ping_interval, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
options = [
    ("grpc.keepalive_time_ms", ping_interval),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
]
with grpc.insecure_channel(address, options=options) as channel:
    call = channel.unary_unary("/test.Test/Wait", lambda _: b"", lambda _: None)
    try:
        call(None, timeout=patience)
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name, error.details())
