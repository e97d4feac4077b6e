"""Calls the four kinds of gRPC methods by grpcio and exits with status 0 when every answer is right."""

import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_http_proxy", 0)])
path = "/test.Kinds/"

unary = channel.unary_unary(path + "Unary")
answer, call = unary.with_call(b"hello", timeout=10, wait_for_ready=True)
assert answer == b"unary:hello", answer
assert ("x-trailer", "unary") in [(k, v) for k, v in call.trailing_metadata()], call.trailing_metadata()
big = b"x" * 3_000_000
assert unary(big, timeout=20) == b"unary:" + big

stream = channel.unary_stream(path + "ServerStream")
assert [int(m) for m in stream(b"1000", timeout=20)] == list(range(1000))

total = channel.stream_unary(path + "ClientStream")
assert total((str(n).encode() for n in range(1000)), timeout=20) == str(sum(range(1000))).encode()

# Each message is sent only after the answer to the one before: nothing on the way may wait for more.
import queue

outgoing = queue.Queue()
both = channel.stream_stream(path + "Both")(iter(outgoing.get, None), timeout=20)
for number in range(100):
    outgoing.put(str(number).encode())
    assert next(both) == b"echo:" + str(number).encode()
outgoing.put(None)
assert list(both) == []

try:
    channel.unary_unary(path + "Fail")(b"", timeout=10)
    raise SystemExit("Fail did not fail")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "as asked: ä", error

try:
    channel.unary_unary(path + "Slow")(b"", timeout=0.5)
    raise SystemExit("Slow was in time")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error

print("all kinds ok")
