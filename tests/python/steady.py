"""Steady traffic for some seconds: HTTP over kept connections on twenty routes, and a WebSocket and a gRPC stream that
begin at the start and must last. `host seconds [proxy-port]`, with an explicit proxy on loopback where one is named;
prints one JSON object: how often each route, configuration, subset and application answered together, what failed, and
how many messages came back on each stream.
"""

import collections
import http.client
import json
import queue
import socket
import sys
import threading
import time
import traceback

import grpc
from websockets.sync.client import connect

host, seconds = sys.argv[1], float(sys.argv[2])
proxy = ("127.0.0.1", int(sys.argv[3])) if sys.argv[3:] else None
until = time.monotonic() + seconds
tally, failures, streams = collections.Counter(), collections.Counter(), collections.Counter()
lock = threading.Lock()
slowest = 0.0


def at(begun):
    """From when to when, in seconds since the start, something failed."""
    return f"{begun - until + seconds:.1f}-{time.monotonic() - until + seconds:.1f} s"


def requests(worker):
    global slowest
    connection, number = None, worker
    while time.monotonic() < until:
        route, number, begun = number % 20, number + 7, time.monotonic()
        try:
            if connection is None:
                connection = http.client.HTTPConnection(*(proxy or (host, 80)), timeout=15)
            connection.request("GET", f"/r/{route}/x", headers={"host": host})
            answer = connection.getresponse()
            answer.read()
            seen = [route] + [answer.headers.get(h, "?") for h in ("x-config", "x-subset", "x-app")]
            with lock:
                slowest = max(slowest, time.monotonic() - begun)
                if answer.status == 200:
                    tally[json.dumps(seen)] += 1
                else:
                    failures[f"{answer.status} {answer.headers.get('causeway-error')} {seen} {at(begun)}"] += 1
        except Exception as error:
            connection = None
            with lock:
                failures[f"{error!r} {at(begun)}"] += 1
        time.sleep(0.004)


def websocket():
    way = socket.create_connection(proxy or (host, 8765))
    with connect(f"ws://{host}:8765/r/3/ws", sock=way, proxy=None, open_timeout=15) as connection:
        connection.recv(timeout=10)
        while time.monotonic() < until:
            connection.send(text := str(streams["websocket"]))
            assert connection.recv(timeout=10) == text
            streams["websocket"] += 1
            time.sleep(0.05)


def grpc_stream():
    to, at = f"{host}:50051", "{}:{}".format(*proxy) if proxy else f"{host}:50051"
    channel = grpc.insecure_channel(at, options=[("grpc.enable_http_proxy", 0), ("grpc.default_authority", to)])
    outgoing = queue.Queue()
    both = channel.stream_stream("/test.Kinds/Both")(iter(outgoing.get, None), wait_for_ready=True)
    while time.monotonic() < until:
        outgoing.put(text := str(streams["grpc"]).encode())
        assert next(both) == b"echo:" + text
        streams["grpc"] += 1
        time.sleep(0.05)
    outgoing.put(None)
    assert list(both) == []


def guarded(work, *arguments):
    try:
        work(*arguments)
    except BaseException:
        with lock:
            failures[f"{work.__name__}: {traceback.format_exc(limit=-2)}"] += 1


threads = [threading.Thread(target=guarded, args=(requests, n)) for n in range(4)]
threads += [threading.Thread(target=guarded, args=(work,)) for work in (websocket, grpc_stream)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({
    "answers": [json.loads(key) + [count] for key, count in tally.items()],
    "failures": failures, "streams": streams, "slowest_ms": round(slowest * 1000),
}))
