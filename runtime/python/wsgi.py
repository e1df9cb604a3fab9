"""Serves a WSGI app (PEP 3333): one call at a time; reads its body and sends its answer while the app runs.

Writing may block, since the worker always reads on. That a caller left is noticed between two chunks of the answer, and when the
app reads the request.
"""

import select
import sys

from _ol_guest import (
    BODY, CALL, CANCEL, CHUNK, END, FAULT, GRANT, RESULT, WINDOW,
    current, explain, fault_payload, leave_if_forked, load, over, sectioned, sections,
)

webapp = load("webapp")


class Input:
    """`wsgi.input`: reads frames from the connection only when the app wants more than was received."""

    def __init__(self, exchange, first, ended):
        self.exchange = exchange
        self.buffer, self.at = first, 0
        self.later = []
        self.ended = ended
        self.taken = 0

    def arrived(self, payload, ended):
        if payload:
            self.later.append(payload)
        self.ended = self.ended or bool(ended)

    def more(self):
        """Replaces the used-up buffer by the next part of the body; returns False at the end of the body."""
        while not self.later and not self.ended:
            self.exchange.pump()
            if self.exchange.cancelled:
                raise ConnectionAbortedError("the caller left before the request was complete")
        if not self.later:
            return False
        self.buffer, self.at = self.later.pop(0), 0
        return True

    def take(self, size):
        part = self.buffer[self.at : self.at + size]
        self.at += len(part)
        self.taken += len(part)
        if self.taken >= GRANT and not self.ended:
            self.exchange.connection.grant(self.exchange.call, self.taken)
            self.taken = 0
        return part

    def read(self, size=-1):
        if size is None or size < 0:
            size = sys.maxsize
        parts = []
        while size > 0 and (self.at < len(self.buffer) or self.more()):
            part = self.take(size)
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readline(self, size=-1):
        if size is None or size < 0:
            size = sys.maxsize
        parts = []
        while size > 0 and (self.at < len(self.buffer) or self.more()):
            newline = self.buffer.find(b"\n", self.at)
            wanted = len(self.buffer) if newline < 0 else newline + 1
            part = self.take(min(size, wanted - self.at))
            parts.append(part)
            size -= len(part)
            if part.endswith(b"\n"):
                break
        return b"".join(parts)

    def readlines(self, hint=-1):
        lines, have = [], 0
        for line in self:
            lines.append(line)
            have += len(line)
            if hint is not None and 0 < hint <= have:
                break
        return lines

    def __iter__(self):
        return iter(self.readline, b"")


class FileWrapper:
    """`wsgi.file_wrapper`: a file as chunks."""

    def __init__(self, file, size=64 * 1024):
        self.file, self.size = file, size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self):
        return iter(lambda: self.file.read(self.size), b"")


class Exchange:
    """One call: the request as far as it was received, the answer as far as it was sent."""

    def __init__(self, connection, poller, call, payload, ended):
        self.connection, self.poller, self.call = connection, poller, call
        self.head, first = sections(payload)
        self.input = Input(self, first, bool(ended))
        self.credit = connection.window
        self.cancelled = False
        self.answer = None  # (status, headers) once the app has called start_response
        self.measure = None
        self.begun = False  # whether RESULT has been sent

    def pump(self):
        """Receives and handles one frame; waits for it."""
        kind, flags, call, payload = self.connection.receive()
        if call != self.call:
            return
        if kind == BODY:
            self.input.arrived(payload, flags & END)
        elif kind == WINDOW:
            self.credit += int.from_bytes(payload[0:4], "little")
        elif kind == CANCEL:
            self.cancelled = True

    def listen(self):
        """Handles the frames that were received already, without waiting."""
        while self.connection.buffer or self.poller.poll(0):
            self.pump()

    def start_response(self, status, headers, exc_info=None):
        if exc_info:
            try:
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # breaks a reference cycle: its traceback refers to this frame
        elif self.answer:
            raise AssertionError("start_response was called twice without exc_info")
        answer, length = checked(status, headers)
        self.answer, self.measure = answer, webapp.Measure(length, answer[0], self.head["method"])
        return self.write

    def write(self, chunk):
        if not isinstance(chunk, bytes):
            raise TypeError("a WSGI app must answer with bytes, not %s" % type(chunk).__name__)
        if not self.answer:
            raise AssertionError("the app answered before it called start_response")
        if chunk and not self.cancelled:
            self.measure.take(len(chunk), False)
            self.send(chunk, 0)

    def send(self, body, end):
        """Sends `body` in as many frames as it needs, within the window; the last of them has the flag `end`."""
        at = 0
        while True:
            size = CHUNK
            if self.connection.window:
                while at < len(body) and not self.credit and not self.cancelled:
                    self.pump()
                size = min(CHUNK, self.credit)
                if self.cancelled:
                    at = len(body)  # nobody reads the rest
            part = body[at : at + size]
            at, self.credit = at + len(part), self.credit - len(part)
            flag = end if at == len(body) else 0
            if self.begun:
                self.connection.send(BODY, flag, self.call, part)
            else:
                self.begun = True
                status, headers = self.answer
                self.connection.send(RESULT, flag, self.call, sectioned({"status": status, "headers": headers}, part))
            if at == len(body):
                return

    def run(self, app):
        current.set(self.call)
        try:
            last = self.iterate(app)
            if not self.answer and not self.cancelled:
                raise AssertionError("the app returned without calling start_response")
            if not self.cancelled:
                self.measure.take(len(last), True)
        except BaseException as error:  # an app may raise anything, SystemExit too
            leave_if_forked(error)
            return self.fail(error)
        leave_if_forked()
        over(self.call)
        if self.answer:
            self.send(last, END)
        else:
            self.connection.send(FAULT, END, self.call, fault_payload(500, "cancelled\n"))

    def iterate(self, app):
        """Sends the chunks that the app yields, except the chunk of an answer with only one.

        That chunk is returned, so that it can be sent in one frame with the end.
        """
        result = app(environ(self.head, self.input), self.start_response)
        last = b""
        try:
            only = hasattr(result, "__len__") and len(result) == 1
            for chunk in result:
                if only and isinstance(chunk, bytes) and self.answer:
                    last = chunk
                    continue
                self.write(chunk)
                self.listen()
                if self.cancelled:
                    break
        finally:
            if hasattr(result, "close"):
                result.close()
        return last

    def fail(self, error):
        text = explain(error)
        if self.begun and not self.cancelled:  # it is too late to tell the caller, so the error goes to the log
            sys.stderr.write(text)
        over(self.call)
        status = 502 if isinstance(error, webapp.BadAnswer) else 500
        self.connection.send(FAULT, END, self.call, fault_payload(status, text))


def checked(status, headers):
    """Returns ((status, headers), Content-Length or None); raises if something is wrong with them."""
    if not isinstance(status, str):
        raise TypeError("the status must be a str like '200 OK', got %r" % (status,))
    number = status.partition(" ")[0]
    if not (number.isascii() and number.isdigit() and len(number) < 10) or not status.isprintable():
        raise webapp.BadAnswer("the status must be a str like '200 OK', got %r" % status[:60])
    for pair in headers:
        for text in pair:
            if not isinstance(text, str):
                raise TypeError("header names and values must be str, got %r" % (text,))
    headers = [(name, value) for name, value in headers]
    length = webapp.checked_headers(headers)
    return (webapp.checked_status(int(number)), headers), length


def environ(head, body):
    """The environ of PEP 3333. Its strings are bytes decoded as Latin-1, as those in the head already are."""
    path = head["path"]
    root = head.get("root", "")
    query = head.get("query", "")
    host, port = head.get("server") or ("localhost", 80)
    raw = root + path + ("?" + query if query else "")
    variables = {
        "REQUEST_METHOD": head["method"],
        "SCRIPT_NAME": webapp.percent_decoded(root).decode("latin-1"),
        "PATH_INFO": webapp.percent_decoded(path).decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": raw,
        "REQUEST_URI": raw,
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/" + head.get("http", "1.1"),
        "SERVER_SOFTWARE": "open-lambda",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": head.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if head.get("client"):
        variables["REMOTE_ADDR"] = head["client"][0]
        variables["REMOTE_PORT"] = str(head["client"][1])
    for name, value in head.get("headers", ()):
        if "_" in name:  # a WSGI app could not tell it from the header with a dash, which a proxy in front may have set
            continue
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        if key in variables:
            value = variables[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
        variables[key] = value
    return variables


def start(connection, app):
    return False  # WSGI knows no lifespan


def serve(connection, app):
    poller = select.poll()
    poller.register(connection.fd, select.POLLIN)
    while True:
        kind, flags, call, payload = connection.receive()
        if kind == CALL:
            Exchange(connection, poller, call, payload, flags & END).run(app)
