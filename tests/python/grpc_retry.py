"""Serves a gRPC method that fails the first time for each `x-key`, or calls it and prints what came. It fails with the code
that the key names, `resource-exhausted-1`, the last one where it names several; else with UNAVAILABLE.

usage: grpc_retry.py serve ADDRESS | grpc_retry.py call TARGET KEY
"""

import sys
from concurrent import futures

import grpc

PATH = "/test.Retry/Call"
seen = {}
names = {code.name.lower().replace("_", "-"): code for code in grpc.StatusCode}


def named(key):
    found = [(key.rfind(name), code) for name, code in names.items() if name in key]
    return max(found, key=lambda pair: pair[0])[1] if found else grpc.StatusCode.UNAVAILABLE


def call(request, context):
    metadata = dict(context.invocation_metadata())
    key = metadata.get("x-key", "")
    seen[key] = seen.get(key, 0) + 1
    if key and seen[key] == 1:
        context.abort(named(key), "the first time")
    return f"{seen[key] if key else 0} {metadata.get('x-envoy-attempt-count', '')} {metadata.get('x-added', '')}".encode()


if sys.argv[1] == "serve":
    handler = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Retry", handler),))
    server.add_insecure_port(sys.argv[2])
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()
else:
    # The client itself must not try again.
    options = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
    channel = grpc.insecure_channel(sys.argv[2], options=options)
    metadata = (("x-key", sys.argv[3]),) if sys.argv[3] else ()
    try:
        answer = channel.unary_unary(PATH)(b"hello", timeout=10, wait_for_ready=True, metadata=metadata)
        print("OK", answer.decode())
    except grpc.RpcError as error:
        print(error.code().name, error.details())
