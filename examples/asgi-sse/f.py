"""A clock that the server turns: a page, and a stream of server-sent events that it listens to."""

import asyncio
import time

PAGE = b"""<!doctype html>
<title>Clock</title>
<h1 id="time">...</h1>
<script>
  const events = new EventSource("events");
  events.onmessage = event => document.getElementById("time").textContent = event.data;
</script>
"""


async def respond(send, status, kind, body):
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def events(send, every):
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:  # until the page is closed: then `send` raises
        text = "data: %s\n\n" % time.strftime("%H:%M:%S")
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        await asyncio.sleep(every)


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/":
        await respond(send, 200, b"text/html; charset=utf-8", PAGE)
    elif path == "/events":
        await events(send, every=1)
    else:
        await respond(send, 404, b"text/plain", b"There is nothing here.\n")
