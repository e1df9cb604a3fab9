"""f(event): binding, errors, bodies in parts, and what a function may do to its process."""

import gzip
import struct
import unittest

from harness import BODY, COMPILED, END, MIB, RESULT, WINDOW, Worker


class Binding(unittest.TestCase):
    def refusal(self, source, **options):
        with Worker(source, **options) as worker:
            self.assertIsNotNone(worker.bind_error, "it was bound")
            self.assertNotIn("guest.py", worker.bind_error)
            self.assertNotIn("/runtime/", worker.bind_error)
            return worker.bind_error

    def test_says_what_it_is(self):
        with Worker("def f(event): return event") as worker:
            self.assertEqual(worker.ready["runtime"], "python")
            self.assertEqual(worker.bound, {"kind": "f", "lifespan": False})

    def test_binds_what_it_compiled(self):
        with Worker("def f(event): return 41 + 1") as worker:
            self.assertTrue(worker.bound_flags & COMPILED)
            code = worker.code
        with Worker("def f(event): return 0", compiled=code) as worker:
            self.assertFalse(worker.bound_flags & COMPILED)
            self.assertEqual(worker.event(1).json(), 42)

    def test_long_code_comes_in_parts(self):
        with Worker("TEXT = '%s'\ndef f(event): return len(TEXT)" % ("x" * 200000)) as worker:
            self.assertEqual(worker.event(1).json(), 200000)

    def test_nothing_to_serve(self):
        text = self.refusal("x = 1")
        self.assertIn("f.py defines no function f(event) and no app", text)
        self.assertIn("OL_WSGI_ENTRY", text)
        self.assertIn("OL_ASGI_ENTRY", text)
        self.assertNotIn("Traceback", text)

    def test_what_cannot_be_called(self):
        self.assertIn("f in f.py is not callable", self.refusal("f = 1"))
        self.assertIn("app in f.py is not callable", self.refusal("app = 1"))
        for variable in ("OL_WSGI_ENTRY", "OL_ASGI_ENTRY"):
            text = self.refusal("other = 1", environment={variable: "other"})
            self.assertIn("other in f.py (%s) is not callable" % variable, text)
            text = self.refusal("x = 1", environment={variable: "x.y"})
            self.assertIn("f.py has no x.y (%s)" % variable, text)

    def test_entry_must_be_python(self):
        self.assertIn("must end with .py", self.refusal("f = 1", entry="app.txt"))

    def test_error_at_import(self):
        text = self.refusal("def inner():\n    return 1 / 0\ninner()")
        self.assertIn("f.py\", line 2, in inner", text)
        self.assertIn("ZeroDivisionError", text)
        self.assertIn("line 1", self.refusal("def"))
        self.assertIn("SystemExit: 3", self.refusal("import sys; sys.exit(3)"))
        self.assertIn("KeyboardInterrupt", self.refusal("raise KeyboardInterrupt"))

    def test_error_at_import_has_its_causes(self):
        text = self.refusal("try:\n  1 / 0\nexcept Exception as e:\n  raise KeyError('k') from e")
        self.assertIn("ZeroDivisionError", text)
        self.assertIn("KeyError: 'k'", text)

    def test_entry_in_a_folder(self):
        source = """
            from src import models
            from .models import VALUE
            from dataclasses import dataclass
            import pickle, pkgutil
            @dataclass
            class Point:
                x: int
            def f(event):
                import src.app
                again = pickle.loads(pickle.dumps(Point(3)))
                return [VALUE, models.VALUE, __name__, __package__, __file__, src.app.f is f, again.x, __spec__.name]
        """
        for extra in ({}, {"src/__init__.py": "READY = 1"}, {"src/__init__.py": "from . import app"}):
            with Worker(source, entry="src/app.py", files={"src/models.py": "VALUE = 7", **extra}) as worker:
                self.assertIsNone(worker.bind_error)
                file = worker.handler + "/src/app.py"
                self.assertEqual(worker.event(1).json(), [7, 7, "src.app", "src", file, True, 3, "src.app"])

    def test_entry_belongs_to_its_package(self):
        source = "import sys\ndef f(event): return sys.modules['a.b'].c.f is f"
        with Worker(source, entry="a/b/c.py") as worker:
            self.assertIs(worker.event(1).json(), True)

    def test_siblings(self):
        with Worker("import helper\ndef f(event): return helper.x", files={"helper.py": "x = 5"}) as worker:
            self.assertEqual(worker.event(1).json(), 5)

    def test_entry_with_the_name_of_a_module_of_python(self):
        source = "import json\ndef f(event): return json.dumps(event)"
        with Worker(source, entry="json.py") as worker:
            self.assertEqual(worker.event(1, b"[1]").json(), "[1]")

    def test_modules_called_like_ours(self):
        names = ("guest", "wsgi", "asgi", "webapp", "lifespan", "bell", "tagging", "asgi_call")
        source = "import %s\ndef app(environ, start): start('200 OK', []); return [bell.x]" % ", ".join(names)
        with Worker(source, files={name + ".py": "x = b'mine'" for name in names}) as worker:
            self.assertEqual(worker.ask(1).body, b"mine")

    def test_environment_reaches_the_module(self):
        source = "import os\nX = os.environ['X']\ndef f(event): return X"
        with Worker(source, environment={"X": "y"}) as worker:
            self.assertEqual(worker.event(1).json(), "y")

    def test_kinds(self):
        wsgi = ("def app(environ, start_response): pass",
                "class App:\n  def __call__(self, e, s): pass\napp = App()",
                "class app:\n  def __init__(self, e, s): pass\n  def __iter__(self): pass",
                "def app(*args): pass",
                "def app(environ, start_response, extra=None): pass")
        asgi = ("async def app(scope, receive, send): pass",
                "class App:\n  async def __call__(self, a, b, c): pass\napp = App()",
                "class App:\n  async def run(self, a, b, c): pass\napp = App().run",
                "import functools\nasync def inner(x, a, b, c): pass\napp = functools.partial(inner, 1)",
                "import functools\nasync def inner(a, b, c): pass\napp = functools.partial(inner)",
                "def app(scope, receive, send): return None",
                "class app:\n  def __init__(self, a, b, c): pass\n  def __await__(self): yield")
        for kind, sources in (("wsgi", wsgi), ("asgi", asgi)):
            for source in sources:
                with self.subTest(source), Worker(source) as worker:
                    self.assertIsNone(worker.bind_error)
                    self.assertEqual(worker.bound["kind"], kind)

    def test_what_is_named_wins(self):
        source = "class holder:\n  async def app(a, b, c): pass\ndef f(event): pass\ndef g(e, s): pass\ndef app(): pass"
        for environment, kind in (({"OL_WSGI_ENTRY": "g"}, "wsgi"), ({"OL_ASGI_ENTRY": "holder.app"}, "asgi"), ({}, "f")):
            with Worker(source, environment=environment) as worker:
                self.assertEqual(worker.bound["kind"], kind)

    def test_what_the_code_sets_names_no_app(self):
        source = "import os\nos.environ.update(OL_WSGI_ENTRY='g')\ndef f(event): pass\ndef g(e, s): pass"
        with Worker(source) as worker:
            self.assertEqual(worker.bound["kind"], "f")
        source = "import os\nos.environ.clear()\ndef f(event): pass\ndef g(e, s): pass"
        with Worker(source, environment={"OL_WSGI_ENTRY": "g"}) as worker:
            self.assertEqual(worker.bound["kind"], "wsgi")


class Calls(unittest.TestCase):
    def test_echo_in_one_frame(self):
        with Worker("def f(event): return event") as worker:
            answer = worker.event(1, b'{"a": 1}')
            self.assertEqual((answer.json(), answer.frames, answer.status), ({"a": 1}, 1, 200))
            self.assertEqual(worker.event(2).json(), {})

    def test_errors_leave_the_function_running(self):
        source = """
            import sys
            def f(event):
                if event == "exit": sys.exit(3)
                if event == "interrupt": raise KeyboardInterrupt
                if event == "nan": return float("nan")
                if event == "object": return object()
                if event == "deep":
                    try: 1 / 0
                    except Exception: [][1]
                return "fine"
        """
        with Worker(source) as worker:
            for call, (event, expected) in enumerate((("exit", "SystemExit: 3"), ("interrupt", "KeyboardInterrupt"),
                                                      ("nan", "not JSON compliant"), ("object", "not JSON serializable"),
                                                      ("deep", "IndexError")), 1):
                answer = worker.event(call, b'"%s"' % event.encode())
                self.assertEqual(answer.status, 500)
                self.assertIn(expected, answer.fault)
                self.assertNotIn("guest.py", answer.fault)
            self.assertIn("ZeroDivisionError", answer.fault)
            self.assertIn("f.py\", line 9, in f", answer.fault)
            self.assertEqual(worker.event(9, b"{").status, 400)
            self.assertEqual(worker.event(10, b"[" * 100000).status, 400)
            self.assertEqual(worker.event(11, b"1").json(), "fine")

    def test_long_bodies_both_ways(self):
        with Worker("def f(event): return event") as worker:
            worker.call(1, b'"', end=False)
            sent = 0
            while sent < 8 * MIB:
                while worker.owed[1] < 65536:
                    self.assertEqual(worker.frame()[0], WINDOW)
                worker.body(1, b"x" * 65536)
                sent += 65536
            worker.body(1, b'"', end=True)
            answer = worker.answer(1)
            self.assertEqual(len(answer.body), 8 * MIB + 2)

    def test_keeps_within_the_window(self):
        with Worker("def f(event): return 'x' * 300000", window=100000) as worker:
            self.assertEqual(len(worker.event(1).json()), 300000)
            worker.call(2)
            self.assertEqual(worker.next(2)[0], RESULT)
            worker.cancel(2)
            self.assertEqual(worker.next(2)[:2], (BODY, END))
            self.assertEqual(len(worker.event(3).json()), 300000)

    def test_gzip_is_decoded_within_its_limit(self):
        packed, two = gzip.compress(b'[1, "a"]'), gzip.compress(b"[1,") + gzip.compress(b" 2]") + b"\0\0"
        expected = (
            (packed, 8, [1, "a"]), (two, 8, [1, 2]), (b"", 8, {}), (packed, 7, 413), (gzip.compress(b" " * MIB), 1000, 413),
            (packed[:-1], 8, 400), (packed[:5], 8, 400), (packed + b"x", 8, 400), (b"[1]", 8, 400), (gzip.compress(b"") * 2000, 8, 400),
        )
        with Worker("def f(event): return event") as worker:
            for call, (body, limit, want) in enumerate(expected, 1):
                for number, at in ((call, len(body)), (call + 100, len(body) // 2)):
                    whole = at == len(body)
                    worker.call(number, body[:at], {"encoding": "gzip", "limit": limit}, end=whole)
                    if not whole:
                        worker.body(number, body[at:], end=True)
                    answer = worker.answer(number)
                    if isinstance(want, int):
                        self.assertEqual(answer.status, want, answer.fault)
                    else:
                        self.assertIsNone(answer.fault)
                        self.assertEqual(answer.json(), want)

    def test_cancel(self):
        with Worker("def f(event): return event") as worker:
            worker.call(1, b"[1,", end=False)
            worker.cancel(1)
            answer = worker.answer(1)
            self.assertEqual(answer.fault, "cancelled\n")
            worker.put(BODY, END, 1, b"2]")
            worker.cancel(1)
            worker.cancel(77)
            self.assertEqual(worker.event(2, b"[3]").json(), [3])

    def test_odd_frames_are_ignored(self):
        with Worker("def f(event): return event") as worker:
            worker.put(99, 0, 5, b"what")
            worker.put(WINDOW, 0, 5, struct.pack("<I", 5))
            worker.put(BODY, END, 6, b"stray")
            self.assertEqual(worker.event(1, b"1").json(), 1)

    def test_output_is_there_at_the_end(self):
        source = "import sys\ndef f(event):\n  print('out', end='')\n  print('err', file=sys.stderr, end='')\n  return 1"
        with Worker(source, tag=True) as worker:
            worker.event(1)
            self.assertEqual(worker.tagged(), "\x1e1\x1fout\n\x1e1\x1ferr\n")
        with Worker(source) as worker:
            worker.event(1)
            self.assertEqual(worker.printed(), "outerr")

    def test_children_leave_the_worker_alone(self):
        source = """
            import multiprocessing, os, sys
            def work(x): return x * x
            def f(event):
                if event == "pool":
                    with multiprocessing.get_context("fork").Pool(2) as pool: return pool.map(work, [1, 2, 3])
                if event == "spawn":
                    with multiprocessing.get_context("spawn").Pool(1) as pool: return pool.map(work, [1, 2, 3])
                child = os.fork()
                if not child:
                    if event == "exit": sys.exit(7)
                    if event == "raise": raise ValueError
                    return "from the child"
                return os.WEXITSTATUS(os.waitpid(child, 0)[1])
        """
        with Worker(source) as worker:
            expected = {"pool": [1, 4, 9], "spawn": [1, 4, 9], "exit": 7, "raise": 1, "return": 0}
            for call, event in enumerate(expected, 1):
                self.assertEqual(worker.event(call, b'"%s"' % event.encode()).json(), expected[event])


if __name__ == "__main__":
    unittest.main()
