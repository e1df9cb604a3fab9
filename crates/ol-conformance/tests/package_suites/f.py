"""Runs tests that come with a package, with pytest, in this very process, and tells each outcome as it comes.

As a function it is a WSGI app; as a program it is the same run without a sandbox, to compare with. Both are told what to run as JSON,

    {"package": "numpy", "paths": ["numpy/linalg"], "options": ["-m", "not slow"], "there": false}

`paths` are relative to the folder that the package lies in; `there` says that tests expect to be run in it. What they tell is a line of JSON for
each test, `["NODE ID", "passed", ""]`, with the report's text unless it passed, and at the end `["exit", CODE]`: what was told before is known even if the process ends.
"""

import importlib.util
import json
import os
import sys
import tempfile


class Teller:
    """A pytest plugin. Of a test's phases (set-up, call, teardown) the worst counts."""

    def __init__(self, tell):
        self.tell = tell
        self.outcome, self.text = "passed", ""

    def pytest_runtest_logreport(self, report):
        if not report.passed and self.outcome != "failed":
            self.outcome, self.text = report.outcome, text_of(report)
        if report.when == "teardown":
            self.tell([name_of(report), self.outcome, self.text])
            self.outcome, self.text = "passed", ""

    def pytest_collectreport(self, report):
        if not report.passed:
            self.tell([name_of(report), report.outcome, text_of(report)])


def name_of(report):
    """Its node ID, in which may be where modules lie, which is another place in a sandbox."""
    name = report.nodeid
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        name = name.replace(folder, "...")
    return name


def text_of(report):
    if hasattr(report, "wasxfail"):
        return "expected to fail: " + report.wasxfail
    if isinstance(report.longrepr, tuple):  # file, line, reason of a skipped test
        return report.longrepr[2]
    return str(report.longrepr)[-4000:]


def run(order, write):
    import pytest

    package = importlib.util.find_spec(order["package"])
    root = os.path.dirname(package.submodule_search_locations[0])
    # Most expect that they can write where they are run. Packages can't be written to, so nothing is kept beside them either.
    os.chdir(root if order["there"] else tempfile.mkdtemp())
    options = ["--rootdir", root, "-p", "no:cacheprovider", "-q", "-q", "--tb", "short", *order["options"]]
    paths = [os.path.join(root, path) for path in order["paths"]]

    def tell(what):
        write(json.dumps(what).encode() + b"\n")

    tell(["exit", int(pytest.main(options + paths, plugins=[Teller(tell)]))])


def app(environ, start_response):
    order = json.load(environ["wsgi.input"])
    run(order, start_response("200 OK", [("Content-Type", "application/jsonl")]))
    return []


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # the answer holds nothing that tests print
    run(json.load(sys.stdin), answer.write)
