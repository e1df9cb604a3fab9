"""Plays the worker: starts guest.py in a process of its own and speaks docs/reference/guest-protocol.md with it over a socket pair.

It also checks what must hold in every conversation: windows, one END per call, nothing after it.
"""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap

RUNTIME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
END, COMPILED, BUSY = 1, 2, 4
BIND, CALL, BODY, CANCEL, WINDOW = 1, 2, 3, 4, 5
READY, BOUND, BIND_FAILED, RESULT, FAULT, DONE = 16, 17, 18, 19, 20, 21
MIB = 1024 * 1024


class Answer:
    """Everything that was received for one call until its END."""

    def __init__(self):
        self.status, self.headers, self.body, self.fault, self.busy, self.frames = None, [], b"", None, False, 0

    def json(self):
        return json.loads(self.body)


class Worker:
    def __init__(self, source, entry="f.py", environment=None, window=0, tag=False, files=None, site_packages=False,
                 compiled=None, guest=os.path.join(RUNTIME, "guest.py")):
        self.handler = tempfile.mkdtemp(prefix="ol-handler-")
        self.window = window
        self.credit = {}  # per call: how many bytes the guest may still send
        self.owed = {}  # per call: how many bytes may still be sent to the guest
        self.ended = set()
        self.waiting = []  # frames of other calls, read while waiting for those of one
        source = textwrap.dedent(source)
        for path, text in {entry: source, **(files or {})}.items():
            path = os.path.join(self.handler, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(textwrap.dedent(text))
        self.log = tempfile.TemporaryFile()
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        self.socket = ours
        launcher = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py")
        self.process = subprocess.Popen(
            [sys.executable, "-S", launcher, guest, self.handler, str(theirs.fileno())],
            pass_fds=[theirs.fileno()], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
        theirs.close()
        self.ready = json.loads(self.frame()[3])
        head = {"name": "fn", "entry": entry, "environment": environment or {}, "site_packages": site_packages,
                "window": window, "tag": tag}
        rest = source.encode() if compiled is None else compiled
        payload = sectioned(head, rest)
        flags = COMPILED if compiled is not None else 0
        pieces = [payload[at : at + 60000] for at in range(0, len(payload), 60000)]
        for index, piece in enumerate(pieces):
            last = END if index == len(pieces) - 1 else 0
            self.put(BODY if index else BIND, (0 if index else flags) | last, 0, piece)
        kind, self.bound_flags, _, payload = self.frame()
        self.bind_error = payload.decode() if kind == BIND_FAILED else None
        self.bound, self.code = unsectioned(payload) if kind == BOUND else (None, None)

    # Frames to the guest.

    def put(self, kind, flags, call, payload=b""):
        self.socket.sendall(struct.pack("<IBBHI", len(payload), kind, flags, 0, call) + payload)

    def call(self, call, body=b"", head=None, end=True):
        self.credit[call] = self.window
        self.owed[call] = MIB - len(body)
        self.put(CALL, END if end else 0, call, sectioned(head, body))

    def web(self, call, path="/", body=b"", end=True, **head):
        whole = {"method": "GET", "path": path, "query": "", "headers": [], "root": "/run/fn", "scheme": "http",
                 "client": ["10.0.0.1", 4711], "server": ["localhost", 5000], "http": "1.1"}
        whole.update(head)
        self.call(call, body, whole, end)

    def body(self, call, data, end=False):
        self.owed[call] -= len(data)
        self.put(BODY, END if end else 0, call, data)

    def cancel(self, call):
        self.put(CANCEL, 0, call)

    def grant(self, call, size):
        self.credit[call] += size
        self.put(WINDOW, 0, call, struct.pack("<I", size))

    # Frames from the guest.

    def exactly(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError("the guest is gone: %s" % self.printed())
            data += part
        return bytes(data)

    def frame(self):
        length, kind, flags, _, call = struct.unpack("<IBBHI", self.exactly(12))
        assert length <= MIB, length
        payload = self.exactly(length)
        if call and kind == DONE:
            return kind, flags, call, payload
        if call:
            assert call not in self.ended, "frame %d for call %d after its END" % (kind, call)
        if call and kind == WINDOW:
            self.owed[call] += struct.unpack("<I", payload)[0]
            assert self.owed[call] <= MIB, "call %d was granted more than it took" % call
        elif call:
            if self.window and kind in (RESULT, BODY):
                size = len(unsectioned(payload)[1]) if kind == RESULT else len(payload)
                self.credit[call] -= size
                assert self.credit[call] >= 0, "the window of call %d is exceeded" % call
            if flags & END:
                self.ended.add(call)
        return kind, flags, call, payload

    def next(self, call):
        """The next frame of this call that isn't WINDOW; frames of other calls are kept."""
        for index, frame in enumerate(self.waiting):
            if frame[2] == call:
                return self.waiting.pop(index)
        while True:
            frame = self.frame()
            if frame[0] == WINDOW:
                continue
            if frame[2] == call:
                return frame
            self.waiting.append(frame)

    def answer(self, call, grant=True):
        answer = Answer()
        while True:
            kind, flags, _, payload = self.next(call)
            answer.frames += 1
            if kind == RESULT:
                head, part = unsectioned(payload)
                answer.status, answer.headers = head.get("status", 200), head.get("headers", [])
                answer.body += part
            elif kind == BODY:
                part = payload
                answer.body += part
            elif kind == FAULT:
                answer.status = answer.status or struct.unpack("<H", payload[:2])[0]
                answer.fault, part = payload[2:].decode(), b""
            else:
                raise AssertionError("kind %d in an answer" % kind)
            if flags & END:
                answer.busy = bool(flags & BUSY)
                return answer
            if grant and self.window and part:
                self.grant(call, len(part))

    def ask(self, call, *args, **kwargs):
        """Makes one whole web call, and returns its answer."""
        self.web(call, *args, **kwargs)
        return self.answer(call)

    def event(self, call, body=b""):
        self.call(call, body)
        return self.answer(call)

    def printed(self):
        """Everything that the guest printed, without the numbers of calls."""
        return re.sub("\x1e[0-9]*\x1f", "", self.tagged())

    def tagged(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def peak_kib(self):
        with open("/proc/%d/status" % self.process.pid) as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    def close(self):
        """Ends the conversation; returns the guest's exit status."""
        self.socket.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.handler)
            self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        status = self.close()
        if not exception[0]:
            assert self.bind_error or status == 0, status


def sectioned(head, rest=b""):
    text = b"" if head is None else json.dumps(head).encode()
    return struct.pack("<I", len(text)) + text + rest


def unsectioned(payload):
    length = struct.unpack("<I", payload[:4])[0]
    return (json.loads(payload[4 : 4 + length]) if length else {}), payload[4 + length :]
