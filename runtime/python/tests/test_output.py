"""Printed lines name their call: what goes on after a call prints under that call's number, even while another call runs."""

import unittest

from harness import Worker


class Output(unittest.TestCase):
    def lines(self, source, events, wanted):
        """Makes calls with these events, numbered from 1; returns the lines that contain `wanted`, each as (number, text)."""
        with Worker(source) as worker:
            for call, event in enumerate(events, 1):
                answer = worker.event(call, event)
                self.assertIsNone(answer.fault, answer.fault)
            found = []
            for line in worker.tagged().splitlines():
                tag, mark, text = line.rpartition("\x1f")
                if wanted in text:
                    found.append((tag.lstrip("\x1e") if mark else None, text))
            return found

    def test_nothing_is_named_as_long_as_nothing_was_started(self):
        lines = self.lines("print('x import')\ndef f(event): print('x', event)", [b"1", b"2"], "x")
        self.assertEqual(lines, [(None, "x import"), (None, "x 1"), (None, "x 2")])

    def test_a_thread_prints_for_the_call_that_started_it(self):
        source = """
            import logging, sys, threading
            logging.basicConfig(stream=sys.stdout, format="%(message)s")  # keeps the stream as it finds it
            go, done = threading.Event(), threading.Event()
            def work():
                go.wait()
                print("x printed")
                logging.warning("x logged")
                threading.Thread(target=print, args=("x by its own thread",)).start()
                done.set()
            def f(event):
                print("x called", event)
                if event == 1:
                    return threading.Thread(target=work).start()
                go.set()
                done.wait()
        """
        lines = self.lines(source, [b"1", b"2"], "x")
        late = [("1", text) for text in ("x printed", "x logged", "x by its own thread")]
        self.assertEqual(lines, [(None, "x called 1"), ("2", "x called 2"), *late])

    def test_a_thread_started_at_import_is_no_call_s(self):
        source = """
            import threading
            go, done = threading.Event(), threading.Event()
            def work():
                go.wait()
                print("x")
                done.set()
            threading.Thread(target=work).start()
            def f(event):
                go.set()
                done.wait()
        """
        self.assertEqual(self.lines(source, [b"1"], "x"), [("", "x")])

    def test_an_executor_works_for_who_asks(self):
        source = """
            from concurrent.futures import ThreadPoolExecutor
            pool = ThreadPoolExecutor(1)
            def f(event): pool.submit(print, "x", event).result()
        """
        self.assertEqual(self.lines(source, [b"1", b"2"], "x"), [("1", "x 1"), ("2", "x 2")])

    def test_a_task_of_a_loop_that_is_kept(self):
        source = """
            import asyncio
            loop = asyncio.new_event_loop()
            async def work():
                await asyncio.sleep(0.01)
                print("x late")
            async def main(event):
                if event == 1:
                    loop.kept = asyncio.ensure_future(work())
                else:
                    await loop.kept
                    print("x called", event)
            def f(event): loop.run_until_complete(main(event))
        """
        self.assertEqual(self.lines(source, [b"1", b"2"], "x"), [("1", "x late"), ("2", "x called 2")])

    def test_a_forked_process_prints_for_its_call(self):
        source = """
            import os
            there, here = os.pipe()
            def f(event):
                if event == 1:
                    child = os.fork()
                    if not child:
                        os.read(there, 1)
                        print("x late", end="")
                        raise SystemExit
                    f.child = child
                else:
                    os.write(here, b".")
                    os.waitpid(f.child, 0)
        """
        self.assertEqual(self.lines(source, [b"1", b"2"], "x"), [("1", "x late")])

    def test_streams_stay_what_they_are(self):
        source = """
            import io, sys, threading
            before = [sys.stdout, sys.stderr, sys.stdout.encoding, sys.stdout.errors, sys.stdout.name, sys.stdout.mode]
            def f(event):
                thread = threading.Thread(target=print, args=("x",))
                thread.start()
                thread.join()
                after = [sys.stdout, sys.stderr, sys.stdout.encoding, sys.stdout.errors, sys.stdout.name, sys.stdout.mode]
                sys.stdout.buffer.write(b"x bytes\\n")
                print("x half", end=" ")
                print("line", flush=True)
                return before == after and sys.stdout is sys.__stdout__ and sys.stdout.fileno() == 1
        """
        with Worker(source) as worker:
            self.assertIs(worker.event(1).json(), True)
            self.assertEqual(worker.printed().splitlines(), ["x", "x bytes", "x half line"])

    def test_a_function_that_took_its_streams_apart(self):
        source = """
            import sys, threading
            sys.stdout.detach()
            sys.__stderr__ = None
            def f(event):
                thread = threading.Thread(target=int)
                thread.start()
                thread.join()
                return "lives"
        """
        with Worker(source) as worker:
            self.assertEqual(worker.event(1).json(), "lives")


if __name__ == "__main__":
    unittest.main()
