"""grpcio as a client of a health service: what it does with it, the address, and for how many seconds.

`calls`: from four threads, one after the other; tells how many were answered. `watch`: a stream of which nothing
comes but the first item; tells when that has come, and then is one of which nobody makes use."""

import sys
import threading
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

what, address, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
channel = grpc.insecure_channel(address)
stub = health_pb2_grpc.HealthStub(channel)
request = health_pb2.HealthCheckRequest()
serving = health_pb2.HealthCheckResponse.SERVING


def call(answers, failures):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            answers.append(stub.Check(request, timeout=20).status == serving)
        except grpc.RpcError as error:
            failures.append(f"{error.code()}: {error.details()}")


def calls():
    answers, failures = [], []
    threads = [threading.Thread(target=call, args=(answers, failures)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        print(failure, file=sys.stderr)
    print(answers.count(True), len(failures), flush=True)


def watch():
    watching = stub.Watch(request)
    print(next(watching).status == serving, flush=True)
    time.sleep(seconds)
    print(watching.is_active(), flush=True)
    watching.cancel()
    sys.stdin.read()


{"calls": calls, "watch": watch}[what]()
