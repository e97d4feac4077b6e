"""A WebSocket client over HTTP/2 (RFC 8441): `host port path`. It prints what the server greets it with.

With a fourth argument it holds the connection for so many seconds, a message each 50 ms, and prints how many came back.
"""

import socket
import sys
import time

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset)
from h2.settings import SettingCodes
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage

host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
hold = float(sys.argv[4]) if len(sys.argv) > 4 else 0


class Client:
    def __init__(self):
        self.socket = socket.create_connection((host, port), 10)
        self.socket.settimeout(20)
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.allowed = False
        self.responses, self.data, self.ended = {}, {}, set()
        self.flush()
        while not self.allowed:
            self.read()

    def flush(self):
        self.socket.sendall(self.http.data_to_send())

    def read(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the connection ended")
        for event in self.http.receive_data(data):
            if isinstance(event, RemoteSettingsChanged):
                changed = event.changed_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
                self.allowed = self.allowed or bool(changed and changed.new_value)
            elif isinstance(event, ResponseReceived):
                self.responses[event.stream_id] = dict(event.headers)
            elif isinstance(event, DataReceived):
                self.data.setdefault(event.stream_id, bytearray()).extend(event.data)
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (StreamEnded, StreamReset)):
                self.ended.add(event.stream_id)
        self.flush()

    def request(self, headers, end):
        stream = self.http.get_next_available_stream_id()
        self.http.send_headers(stream, headers, end_stream=end)
        self.flush()
        while stream not in self.responses and stream not in self.ended:
            self.read()
        return stream

    def send(self, stream, data):
        while data:
            if stream in self.ended:
                raise EOFError("the stream ended")
            room = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size, len(data))
            if room == 0:
                self.read()
                continue
            self.http.send_data(stream, data[:room])
            self.flush()
            data = data[room:]


client = Client()
common = [(":scheme", "http"), (":authority", f"{host}:{port}")]
plain = client.request([(":method", "GET")] + common + [(":path", "/")], True)
assert client.responses[plain][":status"] == "200", client.responses
extended = [(":method", "CONNECT"), (":protocol", "websocket")] + common + [(":path", path), ("sec-websocket-version", "13")]
stream = client.request(extended, False)
status = client.responses.get(stream, {}).get(":status")
if status != "200":
    print("refused with", status, client.responses.get(stream, {}).get("causeway-error"))
    sys.exit(0)

frames = Connection(ConnectionType.CLIENT)
events = []


def receive():
    """The next whole message, or the event that is none."""
    parts = []
    while True:
        while not events:
            taken = bytes(client.data.pop(stream, b""))
            if taken:
                frames.receive_data(taken)
                events.extend(frames.events())
            elif stream in client.ended:
                raise EOFError("the stream ended")
            else:
                client.read()
        event = events.pop(0)
        if not isinstance(event, Message):
            return event
        parts.append(event.data)
        if event.message_finished:
            return "".join(parts) if isinstance(parts[0], str) else b"".join(parts)


print("greeted with", receive())
if hold:
    count, until = 0, time.monotonic() + hold
    while time.monotonic() < until:
        client.send(stream, frames.send(TextMessage(data=f"{count}")))
        assert receive() == f"{count}"
        count += 1
        time.sleep(0.05)
    print("held", count)
else:
    for number in range(100):
        client.send(stream, frames.send(TextMessage(data=f"text {number}")))
        assert receive() == f"text {number}"
    for size in (0, 1, 125, 126, 65535, 65536, 2_000_000):
        message = bytes(i % 251 for i in range(size))
        client.send(stream, frames.send(BytesMessage(data=message)))
        assert receive() == message, size
    client.send(stream, frames.send(Ping(payload=b"p")))
    assert isinstance(receive(), Pong)
client.send(stream, frames.send(CloseConnection(code=1000)))
closed = receive()
assert isinstance(closed, CloseConnection) and closed.code == 1000, closed
print("closed with 1000")
