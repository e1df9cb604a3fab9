"""ASGI: the scope, both directions of a call, background work, several calls at once, callers that leave."""

import json
import threading
import time
import unittest

from harness import BODY, DONE, END, MIB, RESULT, WINDOW, Worker, unsectioned

SAY = """
    import asyncio, sys, json, os
    async def say(send, body=b"", more=False, start=True, status=200, headers=()):
        if start: await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})
    async def take(receive):
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request": return body, message["type"]
            body += message["body"]
            if not message["more_body"]: return body, None
"""


def app(source, **options):
    """A worker for `async def http(scope, receive, send)`; lifespan is unsupported unless the source defines app."""
    lines = "\n".join("    " + line for line in source.splitlines())
    if "async def app" not in source:
        lines += """
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await http(scope, receive, send)
    """
    return Worker(SAY + lines, **options)


class Scope(unittest.TestCase):
    def test_complete(self):
        source = """
async def http(scope, receive, send):
    scope["headers"] = list(scope["headers"])
    await say(send, repr(scope).encode(), status=201, headers=[(b"a", b"\\xe9"), [b"c", b"d"]])
"""
        with app(source) as worker:
            self.assertEqual(worker.bound, {"kind": "asgi", "lifespan": False})
            answer = worker.ask(1, "/a%20b/%C3%A9", query="q=%20", headers=[["x-a", "\xe9"], ["x-a", "2"]], method="PUT")
            self.assertEqual((answer.status, answer.headers, answer.frames), (201, [["a", "\xe9"], ["c", "d"]], 1))
            self.assertEqual(eval(answer.body), {
                "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "PUT",
                "scheme": "http", "path": "/a b/\xe9", "raw_path": b"/a%20b/%C3%A9", "query_string": b"q=%20",
                "root_path": "/run/fn", "headers": [(b"x-a", b"\xe9"), (b"x-a", b"2")], "client": ("10.0.0.1", 4711),
                "server": ("localhost", 5000), "state": {}, "extensions": {},
            })


class Lifespan(unittest.TestCase):
    SOURCE = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        print("startup")
        %s
        scope["state"]["pool"] = "pool"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await asyncio.sleep(0.05)
        os.write(1, b"shutdown\\n")
        await send({"type": "lifespan.shutdown.complete"})
    else:
        pool = scope["state"]["pool"]
        scope["state"]["pool"] = "of this call only"
        await say(send, pool.encode())
"""

    def test_supported(self):
        with app(self.SOURCE % "pass") as worker:
            self.assertEqual(worker.bound, {"kind": "asgi", "lifespan": True})
            self.assertEqual(worker.ask(1).body, b"pool")
            self.assertEqual(worker.ask(2).body, b"pool")
            self.assertEqual(worker.printed(), "startup\n")
            worker.socket.close()
            self.assertEqual(worker.process.wait(10), 0)
            self.assertEqual(worker.printed(), "startup\nshutdown\n")

    def test_failed(self):
        fail = 'await send({"type": "lifespan.startup.failed", "message": "no database"}); return'
        with app(self.SOURCE % fail) as worker:
            self.assertEqual(worker.bind_error, "no database\n")
        with app(self.SOURCE % 'await send({"type": "lifespan.startup.failed"}); 1 / 0') as worker:
            self.assertEqual(worker.bind_error, "the app's startup failed\n")

    def test_exit(self):
        with app(self.SOURCE % "sys.exit(3)") as worker:
            self.assertIn("SystemExit: 3", worker.bind_error)
            self.assertNotIn("lifespan.py", worker.bind_error)
        task = "t = asyncio.ensure_future(asyncio.to_thread(sys.exit, 5)); await t"
        with app(self.SOURCE % task) as worker:
            self.assertIn("SystemExit: 5", worker.bind_error)

    def test_shutdown_is_not_waited_for_long(self):
        with app(self.SOURCE.replace("0.05", "60") % "pass") as worker:
            begun = time.monotonic()
            self.assertEqual(worker.close(), 0)
            self.assertLess(time.monotonic() - begun, 4)
            worker.close = lambda: 0

    def test_running_calls_hear_that_the_worker_is_gone(self):
        source = """
async def http(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "more_body": True})
    await receive()
    os.write(1, (await receive())["type"].encode())
"""
        with app(source) as worker:
            worker.web(1)
            worker.next(1)
            worker.socket.close()
            self.assertEqual(worker.process.wait(10), 0)
            self.assertEqual(worker.printed(), "http.disconnect")


class Request(unittest.TestCase):
    def test_parts(self):
        source = """
async def http(scope, receive, send):
    body, end = await take(receive)
    await say(send, body)
"""
        with app(source) as worker:
            self.assertEqual(worker.ask(1, body=b"whole").body, b"whole")
            self.assertEqual(worker.ask(2).body, b"")
            worker.web(3, end=False)
            for part in (b"a", b"", b"b"):
                worker.body(3, part)
            worker.body(3, b"", end=True)
            self.assertEqual(worker.answer(3).body, b"ab")

    def test_upload_keeps_within_what_is_granted(self):
        source = """
async def http(scope, receive, send):
    size = 0
    while True:
        message = await receive()
        size += len(message["body"])
        if not message["more_body"]: return await say(send, b"%d" % size)
"""
        with app(source) as worker:
            worker.web(1, end=False)
            for _ in range(8 * 16):
                if worker.owed[1] < 65536:
                    self.assertEqual(worker.frame()[0], WINDOW)
                worker.body(1, b"x" * 65536)
            worker.body(1, b"", end=True)
            self.assertEqual(worker.answer(1).body, b"%d" % (8 * MIB))

    def test_unread_body(self):
        with app("async def http(scope, receive, send): await say(send, scope['path'].encode())") as worker:
            worker.web(1, "/1", b"x" * 1000, end=False)
            worker.body(1, b"x" * 500000)
            self.assertEqual(worker.answer(1).body, b"/1")
            self.assertEqual(worker.owed[1], MIB - 501000)
            worker.body(1, b"late")
            worker.cancel(1)
            worker.grant(1, 5)
            worker.put(99, 0, 1, b"odd")
            self.assertEqual(worker.ask(2, "/2").body, b"/2")

    def test_disconnect_after_the_answer(self):
        source = """
async def http(scope, receive, send):
    waiting = asyncio.ensure_future(asyncio.sleep(0))
    async def watch():
        await receive()
        return await receive()
    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0.01)
    assert not watching.done()
    await say(send, b"done")
    print((await watching)["type"], (await receive())["type"])
"""
        with app(source) as worker:
            answer = worker.ask(1)
            self.assertTrue(answer.busy)
            self.assertEqual(worker.next(1)[:2], (DONE, END))
            self.assertEqual(worker.printed(), "http.disconnect http.disconnect\n")


class Response(unittest.TestCase):
    def test_streams_as_it_sends(self):
        source = """
async def http(scope, receive, send):
    await say(send, b"", more=True)
    for _ in range(2):
        part = await receive()
        await say(send, part["body"], more=True, start=False)
    await say(send, b"last", start=False)
"""
        with app(source) as worker:
            worker.web(1, body=b"1", end=False)
            kind, flags, _, payload = worker.next(1)
            self.assertEqual((kind, flags, unsectioned(payload)), (RESULT, 0, ({"status": 200, "headers": []}, b"")))
            self.assertEqual(worker.next(1), (BODY, 0, 1, b"1"))
            worker.body(1, b"2")
            self.assertEqual(worker.next(1), (BODY, 0, 1, b"2"))
            self.assertEqual(worker.next(1), (BODY, END, 1, b"last"))

    def test_background_work(self):
        source = """
async def http(scope, receive, send):
    await say(send, b"answer")
    await asyncio.sleep(0.2)
    print("worked")
    if scope["path"] == "/exit": sys.exit(3)
"""
        with app(source) as worker:
            for call, path in ((1, "/"), (2, "/exit")):
                answer = worker.ask(call, path)
                self.assertEqual((answer.body, answer.busy, answer.frames), (b"answer", True, 1))
                self.assertEqual(worker.next(call), (DONE, END, call, b""))
            self.assertIn("worked\n", worker.printed())
            self.assertIn("SystemExit: 3", worker.printed())

    def test_keeps_within_the_window(self):
        source = """
async def http(scope, receive, send):
    await say(send, b"x" * 1000000, more=True)
    await say(send, bytearray(b"y" * 1000000), start=False)
"""
        with app(source, window=100000) as worker:
            self.assertEqual(worker.ask(1).body, b"x" * 1000000 + b"y" * 1000000)
        with app(source) as worker:
            self.assertEqual(worker.ask(1).body, b"x" * 1000000 + b"y" * 1000000)

    def test_waits_for_who_does_not_read(self):
        source = """
async def http(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    for _ in range(512): await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    await send({"type": "http.response.body"})
"""
        with app(source) as worker:
            before = worker.peak_kib()
            worker.web(1)
            time.sleep(0.5)
            self.assertLess(worker.peak_kib() - before, 4096)
            self.assertEqual(len(worker.answer(1).body), 32 * MIB)

    def test_a_call_without_credit_does_not_hold_up_others(self):
        source = """
async def http(scope, receive, send):
    await say(send, b"x" * (300000 if scope["path"] == "/long" else 10))
"""
        with app(source, window=100000) as worker:
            worker.web(1, "/long")
            self.assertEqual(len(worker.ask(2).body), 10)
            self.assertEqual(len(worker.answer(1).body), 300000)

    def test_errors(self):
        source = """
async def http(scope, receive, send):
    path = scope["path"]
    start = {"type": "http.response.start", "status": 200}
    if path == "/raise": 1 / 0
    if path == "/exit": sys.exit(1)
    if path == "/task": await asyncio.ensure_future(exits())
    if path == "/cancelled": raise asyncio.CancelledError
    if path == "/early": await say(send, b"x", start=False)
    if path == "/odd": await send({"type": "odd"})
    if path == "/wrapped":
        try: await send({"type": "odd"})
        except RuntimeError as error: raise KeyError from error
    if path == "/status": await send({"type": "http.response.start", "status": "200"})
    if path == "/header": await say(send, headers=[("a", "b")])
    if path == "/break": await say(send, headers=[(b"a", b"b\\r\\nc: d")])
    if path == "/silent": return
    if path == "/started": return await send(start)
    if path == "/twice": await send(start); await send(start)
    if path == "/text": await say(send, "text")
    if path == "/cut": await say(send, b"begun", more=True); sys.exit(4)
    if path == "/short": return await say(send, b"begun", more=True)
    await say(send, b"fine")
    if path == "/after": await say(send, b"again", start=False)
async def exits(): sys.exit(2)
"""
        expected = {
            "/raise": "ZeroDivisionError", "/exit": "SystemExit: 1", "/task": "SystemExit: 2", "/cancelled": "CancelledError",
            "/early": "unexpected ASGI message 'http.response.body'", "/odd": "'odd'", "/wrapped": "'odd'", "/status": "must be an int, not '200'",
            "/header": "must be bytes, got 'a'", "/break": "a holds '\\r'", "/silent": "returned without completing",
            "/started": "returned without completing", "/twice": "the response is started", "/text": "must be bytes, not str",
        }
        with app(source) as worker:
            for call, (path, text) in enumerate(expected.items(), 1):
                answer = worker.ask(call, path)
                self.assertEqual((answer.status, answer.frames), (502 if path == "/break" else 500, 1), path)
                self.assertIn(text, answer.fault)
                for name in ("asgi.py", "asgi_call.py", "guest.py"):
                    self.assertNotIn(name, answer.fault)
            for call, path, text in ((50, "/cut", "SystemExit: 4"), (51, "/short", "without completing")):
                answer = worker.ask(call, path)
                self.assertEqual((answer.status, answer.body), (200, b"begun"))
                self.assertIn(text, answer.fault)
            self.assertEqual(worker.ask(52, "/after").body, b"fine")
            self.assertIn("the response is complete", worker.printed())
            self.assertEqual(worker.ask(53, "/fine").body, b"fine")

    def test_what_http_does_not_allow(self):
        source = """
async def http(scope, receive, send):
    told = json.loads((await receive())["body"])
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.get("headers", ())]
    start = {"type": "http.response.start", "status": told.get("status", 200), "headers": headers}
    parts = told.get("parts", ["fine"])
    try:
        await send(start)
        for part in parts:
            await say(send, part.encode(), more=part is not parts[-1], start=False)
    except ValueError as error:
        if told.get("raise"): raise
        try: await send(dict(start, status=200, headers=[]))
        except RuntimeError: pass  # the head was fine
        else: await say(send, str(error).encode(), start=False)
"""
        many = [["x-%d" % number, "1"] for number in range(101)]
        refused = (
            ({"status": 99}, "200 to 999"), ({"status": 103}, "informational answers can't be sent"), ({"status": 1000}, "200 to 999"),
            ({"headers": many}, "101 header lines"), ({"headers": [["x", "y" * 65536]]}, "65537 bytes"),
            ({"headers": [["a b", "1"]]}, "'a b' is no name"), ({"headers": [["x", "a\r\n b"]]}, "x holds"),
            ({"headers": [["content-length", "-1"]]}, "'-1' is no number"),
        )
        with app(source) as worker:
            number = 0
            for told, text in refused:
                number += 1
                answer = worker.ask(number, body=json.dumps(told).encode())
                self.assertIsNone(answer.fault, told)
                self.assertIn(text, answer.body.decode())
                number += 1
                answer = worker.ask(number, body=json.dumps(dict(told, **{"raise": True})).encode())
                self.assertEqual(answer.status, 502)
                self.assertIn(text, answer.fault)
            for length, parts, status, text in (
                ("30", ["12345"], 502, "30, and the body has 5 bytes"), ("3", ["12345"], 502, "longer than its Content-Length, 3"),
                ("9", ["12345", "67890"], 200, "longer"), ("11", ["12345", "67890"], 200, "11, and the body has 10 bytes"),
            ):
                number += 1
                told = {"headers": [["content-length", length]], "parts": parts, "raise": True}
                answer = worker.ask(number, body=json.dumps(told).encode())
                self.assertEqual(answer.status, status)
                self.assertIn(text, answer.fault)
                number += 1
                answer = worker.ask(number, body=json.dumps(told).encode(), method="HEAD")
                self.assertIsNone(answer.fault)

    def test_echo_in_flat_memory(self):
        source = """
async def http(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    while True:
        message = await receive()
        await say(send, message["body"], more=message["more_body"], start=False)
        if not message["more_body"]: return
"""
        size = 64 * MIB
        for window in (0, 256 * 1024):
            with app(source, window=window) as worker:
                worker.ask(1, body=b"warm")
                before = worker.peak_kib()
                room = threading.Condition()

                def upload():
                    for _ in range(size // 65536):
                        with room:
                            room.wait_for(lambda: worker.owed[2] >= 65536)
                            worker.body(2, b"z" * 65536)
                    worker.body(2, b"", end=True)

                worker.web(2, end=False)
                sender = threading.Thread(target=upload)
                sender.start()
                got, flags = 0, 0
                while not flags & END:
                    kind, flags, _, payload = worker.frame()
                    with room:
                        room.notify()
                    if kind == WINDOW:
                        continue
                    part = unsectioned(payload)[1] if kind == RESULT else payload
                    got += len(part)
                    if window:
                        with room:
                            worker.grant(2, len(part))
                sender.join()
                self.assertEqual(got, size)
                self.assertLess(worker.peak_kib() - before, 6 * 1024)


class Cancelling(unittest.TestCase):
    def test_while_the_body_comes(self):
        source = """
async def http(scope, receive, send):
    print(*await take(receive))
"""
        with app(source) as worker:
            worker.web(1, body=b"abc", end=False)
            worker.cancel(1)
            self.assertEqual(worker.answer(1).fault, "cancelled\n")
            # Whether the app received what was sent before depends on how soon it asked.
            self.assertIn(worker.printed(), ("b'' http.disconnect\n", "b'abc' http.disconnect\n"))

    def test_while_it_works(self):
        source = """
async def http(scope, receive, send):
    await take(receive)
    print((await receive())["type"])
    await say(send, b"to nobody")
"""
        with app(source) as worker:
            worker.web(1)
            worker.cancel(1)
            self.assertEqual(worker.answer(1).fault, "cancelled\n")
            self.assertEqual(worker.printed(), "http.disconnect\n")

    def test_while_it_streams(self):
        source = """
async def http(scope, receive, send):
    try:
        await say(send, b"x", more=True)
        while True: await say(send, b"x" * 10000, more=True, start=False)
    except OSError as error: print("heard", error)
"""
        for window in (0, 50000):
            with app(source, window=window) as worker:
                worker.web(1)
                for _ in range(3):
                    worker.next(1)
                worker.cancel(1)
                worker.answer(1, grant=False)
                self.assertEqual(worker.printed(), "heard the caller left\n")

    def test_who_listens_hears_before_send_fails(self):
        source = """
async def http(scope, receive, send):
    await take(receive)
    async def stream():
        await say(send, b"x", more=True)
        while True: await say(send, b"x" * 10000, more=True, start=False)
    streaming = asyncio.ensure_future(stream())
    print((await receive())["type"], streaming.done())
    streaming.cancel()
"""
        with app(source) as worker:
            worker.web(1)
            worker.next(1)
            worker.cancel(1)
            worker.answer(1)
            self.assertEqual(worker.printed(), "http.disconnect False\n")

    def test_while_it_works_in_the_background(self):
        source = """
async def http(scope, receive, send):
    await say(send, b"answer")
    await asyncio.sleep(0.1)
"""
        with app(source) as worker:
            worker.ask(1)
            worker.cancel(1)
            self.assertEqual(worker.next(1)[0], DONE)


class Together(unittest.TestCase):
    SOURCE = """
import contextvars
mine = contextvars.ContextVar("mine")
gates = {}
async def http(scope, receive, send):
    path = scope["path"][1:]
    mine.set(path)
    gates[path] = gate = asyncio.Event()
    if path == "go": return await release(send)
    await gate.wait()
    assert mine.get() == path
    await say(send, path.encode())
async def release(send):
    for name in ("3", "1", "2"):
        gates[name].set()
        for _ in range(5): await asyncio.sleep(0)
    await say(send)
"""

    def test_answered_as_they_are_done(self):
        with app(self.SOURCE) as worker:
            for call in (1, 2, 3):
                worker.web(call, "/%d" % call)
            worker.web(4, "/go")
            order = [worker.frame()[2] for _ in range(4)]
            self.assertEqual(order, [3, 1, 2, 4])

    def test_lines_name_their_call(self):
        source = """
import logging
logging.basicConfig(format="%(message)s", level="INFO")
print("at import")
def in_thread(name):
    print("thread", name)
    sys.stderr.write("error " + name + "\\n")
async def http(scope, receive, send):
    name = scope["path"][1:]
    print("begin", end=" ")
    await asyncio.sleep(0.02)
    print(name)
    await asyncio.to_thread(in_thread, name)
    logging.info("log %s\\nsecond %s", name, name)
    sys.stdout.buffer.write(b"raw\\n")
    os.write(1, b"untagged\\n")
    print("x" * 5000)
    print("unfinished", end="", flush=True)
    await say(send)
"""
        with app(source, tag=True) as worker:
            for call in (1, 2):
                worker.web(call, "/%d" % call)
            for call in (1, 2):
                worker.answer(call)
            lines = worker.tagged().split("\n")
            self.assertEqual(lines[0], "\x1e\x1fat import")
            self.assertEqual(lines.count("untagged"), 2)
            for call in (1, 2):
                tag = "\x1e%d\x1f" % call
                own = [line[len(tag):] for line in lines if line.startswith(tag)]
                self.assertEqual(own, [text.replace("N", str(call)) for text in (
                    "begin N", "thread N", "error N", "log N", "second N", "raw", "x" * 5000, "unfinished")])

    def test_fork(self):
        source = """
import multiprocessing
def work(x): return x * x
async def http(scope, receive, send):
    if scope["path"] == "/pool":
        def pool():
            with multiprocessing.get_context("fork").Pool(2) as pool: return pool.map(work, [1, 2, 3])
        return await say(send, repr(await asyncio.to_thread(pool)).encode())
    child = os.fork()
    if not child:
        if scope["path"] == "/exit": sys.exit(7)
        return await say(send, b"child")
    await say(send, b"%d" % os.WEXITSTATUS(os.waitpid(child, 0)[1]))
"""
        with app(source) as worker:
            for call, (path, body) in enumerate((("/pool", b"[1, 4, 9]"), ("/exit", b"7"), ("/", b"0")), 1):
                self.assertEqual(worker.ask(call, path).body, body, path)

    def test_many_at_once(self):
        source = """
async def http(scope, receive, send):
    body, _ = await take(receive)
    await asyncio.sleep(0.001)
    await say(send, body * 20000)
"""
        with app(source, window=30000) as worker:
            for call in range(1, 41):
                worker.web(call, body=b"%03d" % call)
            for call in range(40, 0, -1):
                self.assertEqual(worker.answer(call).body, b"%03d" % call * 20000)


if __name__ == "__main__":
    unittest.main()
