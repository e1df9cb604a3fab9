"""WSGI: the environ, bodies read in parts, answers sent in parts, errors at every point."""

import json
import unittest

from harness import BODY, END, MIB, RESULT, WINDOW, Worker, unsectioned

VALID = """
    from wsgiref.validate import validator
    import json
    @validator
    def app(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        shown = {k: v for k, v in environ.items() if isinstance(v, (str, bool))}
        text = json.dumps(dict(shown, body=body.decode()))
        start_response("200 OK", [("Content-Type", "application/json")])
        return [text.encode()]
"""


class Environ(unittest.TestCase):
    def test_valid_and_complete(self):
        headers = [["content-type", "text/plain"], ["content-length", "5"], ["x-a", "1"], ["x-a", "2"], ["cookie", "a=1"],
                   ["cookie", "b=2"], ["x_a", "forged"], ["x-latin", "\xe9"]]
        with Worker(VALID) as worker:
            self.assertEqual(worker.bound, {"kind": "wsgi", "lifespan": False})
            answer = worker.ask(1, "/a%20b/%C3%A9%2F", b"hello", query="q=%20", method="POST", headers=headers)
            self.assertIsNone(answer.fault)
            got = answer.json()
            expected = {
                "REQUEST_METHOD": "POST", "SCRIPT_NAME": "/run/fn", "PATH_INFO": "/a b/\xc3\xa9/", "QUERY_STRING": "q=%20",
                "SERVER_NAME": "localhost", "SERVER_PORT": "5000", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "10.0.0.1",
                "REMOTE_PORT": "4711", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "5", "HTTP_X_A": "1,2",
                "HTTP_COOKIE": "a=1; b=2", "HTTP_X_LATIN": "\xe9", "RAW_URI": "/run/fn/a%20b/%C3%A9%2F?q=%20",
                "REQUEST_URI": "/run/fn/a%20b/%C3%A9%2F?q=%20", "wsgi.url_scheme": "http", "wsgi.multithread": False,
                "wsgi.input_terminated": True, "body": "hello",
            }
            self.assertEqual({key: got.get(key) for key in expected}, expected)
            self.assertFalse([key for key in got if key in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH")])
            self.assertEqual(answer.headers, [["Content-Type", "application/json"]])
            self.assertEqual(answer.frames, 2)  # the validator hides that there is one chunk
            self.assertNotIn("REMOTE_ADDR", worker.ask(2, client=None).json())
            self.assertNotIn("Exception", worker.printed())


class Request(unittest.TestCase):
    SOURCE = """
        import json
        def app(environ, start_response):
            i, how = environ["wsgi.input"], environ["PATH_INFO"]
            if how == "/read": got = [i.read().decode(), i.read().decode(), i.read(3).decode()]
            if how == "/read5": got = [i.read(5).decode(), i.read(0).decode(), i.read(100).decode()]
            if how == "/line": got = [i.readline().decode(), i.readline(2).decode(), i.readline().decode(), i.read().decode()]
            if how == "/lines": got = [line.decode() for line in i.readlines()]
            if how == "/hint": got = [line.decode() for line in i.readlines(3)]
            if how == "/iter": got = [line.decode() for line in i]
            if how == "/none": got = []
            if how == "/size":
                got = 0
                while True:
                    part = i.read(100000)
                    if not part: break
                    assert part == b"x" * len(part)
                    got += len(part)
            start_response("200 OK", [])
            return [json.dumps(got).encode()]
    """

    def test_ways_of_reading(self):
        expected = {
            "/read": ["ab\ncd\nef", "", ""], "/read5": ["ab\ncd", "", "\nef"], "/line": ["ab\n", "cd", "\n", "ef"],
            "/lines": ["ab\n", "cd\n", "ef"], "/hint": ["ab\n"], "/iter": ["ab\n", "cd\n", "ef"],
        }
        with Worker(self.SOURCE) as worker:
            for call, (path, lines) in enumerate(expected.items(), 1):
                self.assertEqual(worker.ask(call, path, b"ab\ncd\nef").json(), lines, path)
                call += 100
                worker.web(call, path, b"a", end=False)
                for part in (b"b", b"", b"\nc", b"d\ne"):
                    worker.body(call, part)
                worker.body(call, b"f", end=True)
                self.assertEqual(worker.answer(call).json(), lines, path)

    def test_reads_only_what_it_grants(self):
        with Worker(self.SOURCE) as worker:
            worker.web(1, "/size", end=False)
            sent = 0
            while sent < 8 * MIB:
                if worker.owed[1] < 65536:
                    self.assertEqual(worker.frame()[0], WINDOW)
                worker.body(1, b"x" * 65536)
                sent += 65536
            worker.body(1, b"", end=True)
            self.assertEqual(worker.answer(1).json(), sent)

    def test_unread_body(self):
        with Worker(self.SOURCE) as worker:
            worker.web(1, "/none", b"x" * 1000, end=False)
            worker.body(1, b"x" * 500000)
            self.assertEqual(worker.answer(1).json(), [])
            self.assertEqual(worker.owed[1], MIB - 501000, "granted what nobody took")
            worker.web(2, "/read", b"ne", end=False)
            worker.body(1, b"late")
            worker.cancel(1)
            worker.body(2, b"xt", end=True)
            self.assertEqual(worker.answer(2).json(), ["next", "", ""])

    def test_caller_leaves_while_the_app_reads(self):
        with Worker(self.SOURCE) as worker:
            worker.web(1, "/read", b"abc", end=False)
            worker.cancel(1)
            self.assertIn("the caller left", worker.answer(1).fault)
            self.assertEqual(worker.ask(2, "/read", b"next").json(), ["next", "", ""])


class Response(unittest.TestCase):
    def test_one_chunk_is_one_frame(self):
        with Worker("def app(e, s):\n  s('201 Created', [('A', 'b')])\n  return [b'hello']") as worker:
            answer = worker.ask(1)
            self.assertEqual((answer.status, answer.headers, answer.body, answer.frames), (201, [["A", "b"]], b"hello", 1))

    def test_streams_as_it_yields(self):
        source = """
            import sys
            def app(environ, start_response):
                write = start_response("200 OK", [])
                write(b"written")
                yield b""
                environ["wsgi.input"].read(1)
                yield b"second"
                environ["wsgi.input"].read(1)
                print("closing")
        """
        with Worker(source) as worker:
            worker.web(1, end=False)
            kind, flags, _, payload = worker.next(1)
            self.assertEqual((kind, flags, unsectioned(payload)[1]), (RESULT, 0, b"written"))
            worker.body(1, b"1")
            self.assertEqual(worker.next(1), (BODY, 0, 1, b"second"))
            worker.body(1, b"2")
            self.assertEqual(worker.next(1), (BODY, END, 1, b""))
            self.assertEqual(worker.printed(), "closing\n")

    def test_nothing_yielded(self):
        with Worker("def app(e, s):\n  s('204 No Content', [])\n  return []") as worker:
            answer = worker.ask(1)
            self.assertEqual((answer.status, answer.body, answer.frames), (204, b"", 1))

    def test_long_chunk_within_the_window(self):
        with Worker("def app(e, s):\n  s('200 OK', [])\n  return [b'x' * 3000000]", window=100000) as worker:
            self.assertEqual(len(worker.ask(1).body), 3000000)
        with Worker("def app(e, s):\n  s('200 OK', [])\n  return [b'x' * 3000000]") as worker:
            self.assertEqual(len(worker.ask(1).body), 3000000)

    def test_file(self):
        source = """
            import io
            def app(environ, start_response):
                start_response("200 OK", [])
                file = io.BytesIO(b"x" * 200000)
                file.close = lambda: print("closed")
                return environ["wsgi.file_wrapper"](file)
        """
        with Worker(source) as worker:
            self.assertEqual(len(worker.ask(1).body), 200000)
            self.assertEqual(worker.printed(), "closed\n")

    def test_late_headers_and_exc_info(self):
        source = """
            import sys
            def app(environ, start_response):
                start_response("200 OK", [("A", "old")])
                try: 1 / 0
                except ZeroDivisionError: info = sys.exc_info()
                if environ["PATH_INFO"] == "/before":
                    start_response("500 Oops", [("A", "new")], info)
                    yield b"sorry"
                else:
                    yield b"begun"
                    start_response("500 Oops", [], info)
        """
        with Worker(source) as worker:
            answer = worker.ask(1, "/before")
            self.assertEqual((answer.status, answer.headers, answer.body), (500, [["A", "new"]], b"sorry"))
            answer = worker.ask(2, "/after")
            self.assertEqual((answer.status, answer.body), (200, b"begun"))
            self.assertIn("ZeroDivisionError", answer.fault)

    ERRORS = """
        import sys
        class Closing:
            def __init__(self, chunks): self.chunks = chunks
            def __len__(self): return 1
            def __iter__(self): return iter(self.chunks)
            def close(self):
                print("closed")
                if self.chunks == [b"close"]: raise ValueError("in close")
        def app(environ, start_response):
            path = environ["PATH_INFO"]
            if path == "/raise": 1 / 0
            if path == "/exit": sys.exit(1)
            if path == "/silent": return []
            if path == "/early": return [b"too early"]
            if path == "/status": start_response("OK", [])
            if path == "/header": start_response("200 OK", [("A", "b\\r\\nC: d")])
            if path == "/bytes": start_response("200 OK", [(b"A", "b")])
            if path == "/latin": start_response("200 OK", [("A", "\\u20ac")])
            if path == "/twice": start_response("200 OK", [])
            start_response("200 OK", [])
            if path == "/text": return Closing(["text"])
            if path == "/close": return Closing([b"close"])
            if path == "/fine": return Closing([b"fine"])
            def broken():
                yield b"begun"
                if path == "/later": sys.exit(4)
            return broken()
    """

    def test_errors(self):
        expected = {
            "/raise": "ZeroDivisionError", "/exit": "SystemExit: 1", "/silent": "without calling start_response",
            "/early": "before it called start_response", "/status": "'200 OK', got 'OK'", "/header": "A holds '\\r'",
            "/bytes": "must be str", "/latin": "A holds '\u20ac'", "/twice": "called twice",
            "/text": "must answer with bytes, not str", "/close": "in close",
        }
        with Worker(self.ERRORS) as worker:
            for call, (path, text) in enumerate(expected.items(), 1):
                answer = worker.ask(call, path)
                status = 502 if path in ("/status", "/header", "/latin") else 500
                self.assertEqual((answer.status, answer.frames), (status, 1), path)
                self.assertIn(text, answer.fault)
                self.assertNotIn("wsgi.py", answer.fault)
                self.assertNotIn("guest.py", answer.fault)
            self.assertEqual(worker.printed(), "closed\nclosed\n")
            answer = worker.ask(50, "/later")
            self.assertEqual((answer.status, answer.body), (200, b"begun"))
            self.assertIn("SystemExit: 4", answer.fault)
            self.assertIn("SystemExit: 4", worker.printed())
            self.assertEqual(worker.ask(51, "/fine").body, b"fine")

    def test_what_http_does_not_allow(self):
        source = """
            import json
            def app(environ, start_response):
                told = json.loads(environ["wsgi.input"].read())
                try:
                    start_response(told["status"], [tuple(pair) for pair in told.get("headers", ())])
                except ValueError as error:
                    start_response("200 OK", [])
                    return [str(error).encode()]
                return [part.encode() for part in told.get("parts", ["fine"])]
        """
        many = [["X-%d" % number, "1"] for number in range(101)]
        refused = (
            ("99 Low", [], "200 to 999"), ("100 Continue", [], "informational answers can't be sent"),
            ("101 Switching", [], "informational"), ("1000 High", [], "200 to 999"), ("OK", [], "'200 OK'"),
            ("200 OK\r\nX: y", [], "'200 OK'"), ("200 OK", many, "101 header lines"),
            ("200 OK", [["X", "y" * 65536]], "65537 bytes"), ("200 OK", [["a b", "1"]], "'a b' is no name"),
            ("200 OK", [["", "1"]], "is no name"), ("200 OK", [["X", "a\r\n b"]], "X holds"), ("200 OK", [["X", "\0"]], "X holds"),
            ("200 OK", [["X", "\x7f"]], "X holds"), ("200 OK", [["Content-Length", "many"]], "'many' is no number"),
            ("200 OK", [["Content-Length", "1"], ["content-length", "2"]], "two values"),
        )
        with Worker(source) as worker:
            number = 0
            for status, headers, text in refused:
                number += 1
                answer = worker.ask(number, body=json.dumps({"status": status, "headers": headers}).encode())
                self.assertIsNone(answer.fault, status)
                self.assertIn(text, answer.body.decode())
            for status in ("200", "204 None", "418 x", "999 y", "200 caf\xe9"):
                number += 1
                told = {"status": status, "headers": [["X-Tab", "a\tb \xe9"]]}
                self.assertEqual(worker.ask(number, body=json.dumps(told).encode()).body, b"fine", status)
            for length, parts, text in (("30", ["12345"], "30, and the body has 5 bytes"), ("3", ["12345"], "longer than its Content-Length, 3"),
                                        ("5", [], "has 0 bytes"), ("1", ["12", "3"], "longer")):
                number += 1
                told = json.dumps({"status": "200 OK", "headers": [["Content-Length", length]], "parts": parts}).encode()
                answer = worker.ask(number, body=told)
                self.assertEqual((answer.status, answer.frames), (502, 1))
                self.assertIn(text, answer.fault)
                number += 1
                self.assertIsNone(worker.ask(number, body=told, method="HEAD").fault)

    def test_caller_leaves_while_it_streams(self):
        source = """
            def app(environ, start_response):
                start_response("200 OK", [])
                try:
                    while True: yield b"x" * 1000
                finally: print("closed")
        """
        for window in (0, 5000):
            with Worker(source, window=window) as worker:
                worker.web(1)
                self.assertEqual(worker.next(1)[0], RESULT)
                worker.cancel(1)
                worker.answer(1)
                self.assertEqual(worker.printed(), "closed\n")
                worker.web(2)
                worker.next(2)
                worker.cancel(2)
                worker.answer(2)

    def test_children_leave_the_worker_alone(self):
        source = """
            import os, sys
            def app(environ, start_response):
                child = os.fork()
                if not child:
                    if environ["PATH_INFO"] == "/exit": sys.exit(7)
                    start_response("200 OK", [])
                    return [b"child"]
                start_response("200 OK", [])
                return [b"%d" % os.WEXITSTATUS(os.waitpid(child, 0)[1])]
        """
        with Worker(source) as worker:
            self.assertEqual(worker.ask(1, "/exit").body, b"7")
            self.assertEqual(worker.ask(2, "/").body, b"0")


if __name__ == "__main__":
    unittest.main()
