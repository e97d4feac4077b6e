"""A WebSocket server that echoes; its first argument is the port."""

import sys

from websockets.sync.server import serve


def echo(connection):
    for message in connection:
        connection.send(message)


with serve(echo, "0.0.0.0", int(sys.argv[1]), max_size=None) as server:
    print("listening", flush=True)
    server.serve_forever()
