"""Fetches `url`, or, without one, from a server of its own: that works in a sandbox that has no network."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import requests


class Greeter(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello from the loopback"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def fetch(url):
    response = requests.get(url, timeout=10)
    return {"url": url, "status": response.status_code, "text": response.text[:200]}


def f(event):
    if "url" in event:
        try:
            return fetch(event["url"])
        except requests.RequestException as error:
            return {"url": event["url"], "error": type(error).__name__}
    with HTTPServer(("127.0.0.1", 0), Greeter) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            return fetch("http://127.0.0.1:%d/" % server.server_port)
        finally:
            server.shutdown()
