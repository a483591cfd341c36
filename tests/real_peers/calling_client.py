"""Calls a health service over one channel for so many seconds, and says how many calls it made."""

import sys
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

address, seconds = sys.argv[1], float(sys.argv[2])
calls = 0
with grpc.insecure_channel(address) as channel:
    health = health_pb2_grpc.HealthStub(channel)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        # No retry but those that gRPC itself makes of calls that were not begun.
        health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        calls += 1
print(calls)
