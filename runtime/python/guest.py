"""What runs inside a Python sandbox: binds one function, then answers calls on descriptor 3.

The frames are described in docs/guest-protocol.md. Everything the tenant's code may touch is in this process, so nothing
here is trusted by the worker; what protects the host is outside. Two things keep it quick: no module is imported that
a call doesn't need (`json` apart, which every call does), and a frame is one read and one write.
"""

import json
import marshal
import os
import sys

FD = 3
END, COMPILED = 1, 2
BIND, CALL, BODY, CANCEL = 1, 2, 3, 4
READY, BOUND, BIND_FAILED, RESULT, FAULT = 16, 17, 18, 19, 20
CHUNK = 256 * 1024
HEADER = 12
NO_HEAD = b"\0\0\0\0"


class Connection:
    """Frames over the socket. Reads ahead, so that a small frame costs one system call."""

    def __init__(self, fd):
        self.fd = fd
        self.buffer = b""

    def receive(self):
        """The next frame as (kind, flags, id, payload); ends the process when the worker is gone."""
        buffer = self.buffer
        while len(buffer) < HEADER:
            buffer += self._read(65536)
        length = int.from_bytes(buffer[0:4], "little")
        kind, flags, call = buffer[4], buffer[5], int.from_bytes(buffer[8:12], "little")
        end = HEADER + length
        if len(buffer) < end:
            parts, have = [buffer], len(buffer)
            while have < end:
                part = self._read(max(65536, end - have))
                parts.append(part)
                have += len(part)
            buffer = b"".join(parts)
        self.buffer = buffer[end:]
        return kind, flags, call, buffer[HEADER:end]

    def _read(self, size):
        data = os.read(self.fd, size)
        if not data:
            os._exit(0)
        return data

    def send(self, kind, flags, call, payload):
        frame = (
            len(payload).to_bytes(4, "little")
            + bytes((kind, flags, 0, 0))
            + call.to_bytes(4, "little")
            + payload
        )
        sent = os.write(self.fd, frame)
        while sent < len(frame):
            frame = frame[sent:]
            sent = os.write(self.fd, frame)

    def send_body(self, kind, call, head, body):
        """`body` in as many frames as it needs, the first of `kind` and with `head`."""
        self.send(kind, 0 if len(body) > CHUNK else END, call, head + body[:CHUNK])
        for start in range(CHUNK, len(body), CHUNK):
            last = END if start + CHUNK >= len(body) else 0
            self.send(BODY, last, call, body[start : start + CHUNK])


def sections(payload):
    """A sectioned payload as (parsed head or {}, the rest)."""
    length = int.from_bytes(payload[0:4], "little")
    head = json.loads(payload[4 : 4 + length]) if length else {}
    return head, payload[4 + length :]


def sectioned(head, rest):
    text = json.dumps(head).encode()
    return len(text).to_bytes(4, "little") + text + rest


def explain(error):
    """The traceback of `error` without this file's own frames."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def bind(payload, flags):
    """Makes the module from source or compiled code; returns (kind, handler, code to keep or b"")."""
    head, rest = sections(payload)
    os.environ.update(head.get("environment", {}))
    if head.get("site_packages"):
        import site

        sys.path.extend(p for p in site.getsitepackages() if p not in sys.path)
    sys.path.append("/handler")
    entry = head["entry"]
    path = "/handler/" + entry
    if flags & COMPILED:
        code, keep = marshal.loads(rest), b""
    else:
        code = compile(rest, path, "exec", dont_inherit=True)
        keep = marshal.dumps(code)
        if len(keep) > CHUNK:  # compiled anew each time: it would not fit a frame
            keep = b""
    name = entry[:-3] if entry.endswith(".py") else entry
    module = type(sys)(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(code, module.__dict__)
    handler = getattr(module, "f", None)
    if not callable(handler):
        raise NameError("%s defines no function f(event)" % entry)
    return "f", handler, keep


def answer(connection, handler, call, body):
    """One call of f(event): JSON in, JSON out."""
    try:
        event = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        return fault(connection, call, 400, "the request body is not JSON: %s\n" % error)
    try:
        result = json.dumps(handler(event), allow_nan=False).encode()
    except BaseException as error:  # a handler may raise anything, SystemExit too
        return fault(connection, call, 500, explain(error))
    finally:
        flush()
    connection.send_body(RESULT, call, NO_HEAD, result)


def flush():
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # the function may have closed or replaced them
        pass


def fault(connection, call, status, text):
    data = text.encode("utf-8", "replace")[: CHUNK]
    connection.send(FAULT, END, call, status.to_bytes(2, "little") + data)


def serve(connection, handler):
    bodies = {}
    while True:
        kind, flags, call, payload = connection.receive()
        if kind == CALL:
            body = payload[4 + int.from_bytes(payload[0:4], "little") :]
            if flags & END:
                answer(connection, handler, call, body)
            else:
                bodies[call] = [body]
        elif kind == BODY and call in bodies:
            bodies[call].append(payload)
            if flags & END:
                answer(connection, handler, call, b"".join(bodies.pop(call)))
        elif kind == CANCEL:
            bodies.pop(call, None)


def leave_the_worker_alone():
    """In a child that the function forks: the connection is the parent's."""
    os.close(FD)
    connection.fd = -1


def main():
    sys.stdout.reconfigure(line_buffering=True)
    os.set_inheritable(FD, False)
    os.register_at_fork(after_in_child=leave_the_worker_alone)
    magic = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER.hex()
    version = "%d.%d.%d" % sys.version_info[:3]
    hello = {"runtime": "python", "version": version, "magic": magic}
    connection.send(READY, END, 0, json.dumps(hello).encode())
    kind, flags, _, payload = connection.receive()
    if kind != BIND:
        os._exit(1)
    last = flags & END
    while not last:
        _, more, _, part = connection.receive()
        payload, last = payload + part, more & END
    try:
        what, handler, keep = bind(payload, flags)
    except BaseException as error:  # an import may raise anything, SystemExit too
        flush()
        connection.send(BIND_FAILED, END, 0, explain(error).encode("utf-8", "replace")[:CHUNK])
        os._exit(1)
    connection.send(BOUND, END | (COMPILED if keep else 0), 0, sectioned({"kind": what}, keep))
    serve(connection, handler)


connection = Connection(FD)
if __name__ == "__main__":
    main()
