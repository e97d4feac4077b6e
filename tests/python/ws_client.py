"""A WebSocket client: text, binary, large and many messages, a ping, and an orderly close."""

import sys

from websockets.sync.client import connect

with connect(sys.argv[1], max_size=None, proxy=None, open_timeout=15) as connection:
    for number in range(200):
        connection.send(f"text {number}")
        assert connection.recv(timeout=10) == f"text {number}"
    for size in (0, 1, 125, 126, 65535, 65536, 2_000_000):
        message = bytes(i % 251 for i in range(size))
        connection.send(message)
        assert connection.recv(timeout=20) == message, size
    assert connection.ping().wait(10)
print("closed with", connection.close_code)
assert connection.close_code == 1000
