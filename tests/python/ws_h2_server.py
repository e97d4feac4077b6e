"""A WebSocket server that echoes, over HTTP/1.1 and HTTP/2 (RFC 8441); its first argument is the port."""

import asyncio
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (event := await receive())["type"] != "lifespan.shutdown":
            await send({"type": event["type"] + ".complete"})
        return
    if scope["type"] == "http":
        text = f"http {scope['http_version']}\n".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})
        return
    caller = next((v for n, v in scope["headers"] if n == b"x-forwarded-client-cert"), b"nobody")
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": f"{scope['http_version']} {caller.decode()}"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


config = Config()
config.bind = [f"0.0.0.0:{sys.argv[1]}"]
config.websocket_max_message_size = 1 << 24
config.h2_max_inbound_frame_size = 1 << 14
print("listening", flush=True)
asyncio.run(serve(app, config))
