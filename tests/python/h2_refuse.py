"""An HTTP/2 server that refuses the first streams of each `x-key` as if it had not looked at them.

usage: h2_refuse.py PORT TIMES
"""

import socket
import sys
import threading

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived

times = int(sys.argv[2])
refused = {}


def answer(connection, stream, headers):
    key = headers.get("x-key", "")
    if key != "count" and refused.get(key, 0) < times:
        refused[key] = refused.get(key, 0) + 1
        connection.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        return
    told = {"x-refused": refused.get(key, 0), "x-all": sum(refused.values())}
    told |= {"x-attempt": headers.get("x-envoy-attempt-count", "")}
    head = [(":status", "200")] + [(name, str(value)) for name, value in told.items()]
    connection.send_headers(stream, head, end_stream=True)


def serve(client):
    connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    client.sendall(connection.data_to_send())
    while data := client.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                answer(connection, event.stream_id, dict(event.headers))
        client.sendall(connection.data_to_send())


server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
