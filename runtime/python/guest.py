"""What runs inside a Python sandbox: binds one function, then answers calls on descriptor 3.

The frames are described in docs/reference/guest-protocol.md. Everything the tenant's code may touch is in this process, so nothing
here is trusted by the worker; what protects the host is outside. Two things keep it quick: no module is imported that
a call doesn't need (`json` apart, which every call does), and a frame is one read and one write. What only web apps
need lies in files beside this one, read when the function turns out to be one:

    guest.py ─┬─ encoding.py   decodes the bodies of requests that are sent as gzip
              ├─ webapp.py     which app the module holds, and of which kind
              ├─ wsgi.py       serves a WSGI app
              ├─ asgi.py       serves an ASGI app ── asgi_call.py, one call ── lifespan.py
              ├─ tagging.py    printed lines that name their call
              └─ zygote.py     imports, and forks processes that start here with everything imported
"""

import sys

HERE = __file__.rpartition("/")[0]
if sys.path[0] == HERE:  # where Python looks first for what a program imports; what lies here is nobody's but the runtime's
    del sys.path[0]

import gc

gc.disable()  # until this file is read: what is made meanwhile stays, and looking for garbage among it took a tenth of the start

import json
import marshal
import os
from _contextvars import ContextVar
from _struct import Struct
from time import perf_counter_ns, tzset

FD = 3
HANDLER = "/handler"
END, COMPILED, BUSY, LEFT = 1, 2, 4, 8
BIND, CALL, BODY, CANCEL, WINDOW, ZYGOTE, WARM = 1, 2, 3, 4, 5, 6, 7
READY, BOUND, BIND_FAILED, RESULT, FAULT, DONE, WARMED = 16, 17, 18, 19, 20, 21, 22
CHUNK = 256 * 1024
GRANT = 256 * 1024  # bytes of a request that are taken before more are asked for; far below the 1 MiB the worker may be ahead
NOBODY = 0  # in the place of a call's number
HEADER = 12
FRAME = Struct("<IBBHI")
NO_HEAD = b"\0\0\0\0"
NO_SITE = 6  # its place in sys.flags


class Connection:
    """Frames over the socket. Reads ahead, so that a small frame costs one system call."""

    def __init__(self, fd):
        self.fd = fd
        self.buffer = b""
        self.window = 0
        self.began = 0  # when the last call came

    def restart(self):
        """Forgets what another process heard on it."""
        self.buffer, self.window = b"", 0

    def receive(self):
        """The next frame as (kind, flags, id, payload); ends the process when the worker is gone."""
        buffer = self.buffer
        while len(buffer) < HEADER:
            buffer += os.read(self.fd, 65536) or os._exit(0)
        length, kind, flags, _, call = FRAME.unpack_from(buffer)
        end = HEADER + length
        if len(buffer) < end:
            parts, have = [buffer], len(buffer)
            while have < end:
                part = os.read(self.fd, max(65536, end - have)) or os._exit(0)
                parts.append(part)
                have += len(part)
            buffer = b"".join(parts)
        self.buffer = buffer[end:]
        if kind == CALL:
            self.began = perf_counter_ns()
        return kind, flags, call, buffer[HEADER:end]

    def send(self, kind, flags, call, payload):
        took = 0
        if flags & END and call:
            took = microseconds(self.began)
            if tagging is not None:
                flags |= left()
        frame = FRAME.pack(len(payload), kind, flags, took, call) + payload
        sent = os.write(self.fd, frame)
        while sent < len(frame):
            frame = frame[sent:]
            sent = os.write(self.fd, frame)

    def send_body(self, kind, call, head, body):
        """`body` in as many frames as it needs, the first of `kind` and with `head`, within the window."""
        if not self.window and len(body) <= CHUNK:
            return self.send(kind, END, call, head + body)
        credit = self.window or len(body)
        at = 0
        while True:
            part = body[at : at + min(CHUNK, credit)]
            at, credit = at + len(part), credit - len(part)
            last = at == len(body)
            self.send(kind, END if last else 0, call, head + part)
            if last:
                return
            kind, head = BODY, b""
            while not credit:
                what, _, whose, payload = self.receive()
                if whose == call and what == WINDOW:
                    credit = int.from_bytes(payload[0:4], "little")
                elif whose == call and what == CANCEL:
                    return self.send(BODY, END, call, b"")

    def grant(self, call, size):
        self.send(WINDOW, 0, call, size.to_bytes(4, "little"))


def microseconds(began):
    """The time since `began` as a header tells it: rounded up, at most what its field holds."""
    took = (perf_counter_ns() - began) // 1000 + 1
    return took if took < 65536 else 65535


def sections(payload):
    """A sectioned payload as (parsed head or {}, the rest)."""
    length = int.from_bytes(payload[0:4], "little")
    head = json.loads(payload[4 : 4 + length]) if length else {}
    return head, payload[4 + length :]


def sectioned(head, rest):
    text = json.dumps(head).encode()
    return len(text).to_bytes(4, "little") + text + rest


class Refusal(Exception):
    """What the runtime itself has against a function, in words for its author."""


def explain(error):
    """The traceback of `error` and of what led to it, without the runtime's own frames."""
    if isinstance(error, Refusal):
        return "%s\n" % error
    import traceback

    whole = traceback.TracebackException(type(error), error, error.__traceback__)
    seen, todo = set(), [whole]
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack[:] = [frame for frame in part.stack if not frame.filename.startswith(HERE + "/")]
        todo += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
    return "".join(whole.format())


def load(name):
    """The file `name`.py beside this one. Its folder is not on sys.path and the module's name is out of the way, so that
    the function's modules and the runtime's can't take each other's place."""
    known = sys.modules.get("_ol_" + name)
    if known is not None:
        return known
    code = compiled.get(name) or compile_file(name)
    module = type(sys)("_ol_" + name)
    module.__file__ = code.co_filename
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)
    return module


def compile_file(name):
    path = "%s/%s.py" % (HERE, name)
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec", dont_inherit=True)


def bind(payload, flags):
    """Makes the module from source or compiled code; returns (kind, handler, code to keep or b"")."""
    head, rest = sections(payload)
    os.chdir(HANDLER)  # a process forked ahead stands in the empty folder that the code was mounted over
    sys.path_importer_cache.pop(HANDLER, None)
    environment = head.get("environment", {})
    os.environ.update(environment)
    if "TZ" in environment:
        tzset()
    connection.window = head.get("window", 0)
    current.set(NOBODY)  # what is printed or started from here on is no call's
    if head.get("tag"):
        tagged()
    if head.get("site_packages"):
        import site

        sys.path.extend(p for p in site.getsitepackages() if p not in sys.path)
    named, packages = os.environ.get("PYTHONPATH"), head.get("path", ())
    first = [*(map(os.path.abspath, named.split(":")) if named else ()), *packages]
    sys.path[:0] = [p for p in first if p not in sys.path]
    if packages:  # a Python that the function starts is to find them too
        os.environ["PYTHONPATH"] = ":".join([*([named] if named else []), *packages])
    sys.path.append(HANDLER)
    entry = head["entry"]
    if not entry.endswith(".py"):
        raise Refusal("the entry file must end with .py, got %r: set OL_ENTRY_FILE to one that does" % entry)
    path = HANDLER + "/" + entry
    if flags & COMPILED:
        code, keep = marshal.loads(rest), b""
    else:
        code = compile(rest, path, "exec", dont_inherit=True)
        keep = marshal.dumps(code)
        if len(keep) > CHUNK:  # compiled anew each time: it would not fit a frame
            keep = b""
    module = import_entry(entry, path, code)
    handler = getattr(module, "f", None)
    named = os.environ.get("OL_WSGI_ENTRY") or os.environ.get("OL_ASGI_ENTRY")
    if callable(handler) and not named:
        return "f", handler, keep
    kind, handler = load("webapp").find_app(module, entry)
    return kind, handler, keep


def import_entry(entry, path, code):
    """Runs `code` as the module that `import` would make of `entry`: `src/app.py` is `src.app`, imported after `src`."""
    folder, _, name = entry[:-3].lstrip("./").rpartition("/")
    parent = "" if "." in folder else folder.replace("/", ".")
    if parent:
        __import__(parent)
        name = parent + "." + name
        if name in sys.modules:  # its package imported it
            return sys.modules[name]
    machinery = sys.modules["_frozen_importlib_external"]  # importlib.util would have to be imported
    spec = machinery.spec_from_file_location(name, path)
    module = sys.modules["_frozen_importlib"].module_from_spec(spec)
    sys.modules.setdefault(name, module)  # an entry called like a module of ours or of Python's must not replace it
    exec(code, module.__dict__)
    if parent:
        setattr(sys.modules[parent], name.rpartition(".")[2], module)
    return module


SPACES = " \t\n\r"  # JSON's


def parse(body):
    """The JSON value in `body`. Nearly always it is UTF-8, and then what json.loads does beside parsing takes longer than that."""
    try:
        text = body.decode().lstrip(SPACES)
        value, end = JSON.raw_decode(text)
        if end == len(text) or not text[end:].strip(SPACES):
            return value
    except ValueError:
        pass
    return json.loads(body)


def make_encoder():
    """A function from values to JSON text. One C encoder serves all calls; json.dumps makes one for each, which takes longer than
    its work. A function that replaces JSONEncoder.default is heeded, as json.dumps would."""
    plain = json.JSONEncoder(allow_nan=False)
    try:
        make, text = json.encoder.c_make_encoder, json.encoder.encode_basestring_ascii
        quick = make(None, lambda value: plain.default(value), text, None, ": ", ", ", False, False, False)
        if "".join(quick({"a": [1, None]}, 0)) == '{"a": [1, null]}':
            return lambda value: "".join(quick(value, 0))
    except Exception:  # it is no promised interface
        pass
    return plain.encode


def answer(connection, handler, call, body, head=b""):
    """One call of f(event): JSON in, JSON out. With a head, which says how, the body is to be decoded first."""
    current.set(call)
    try:
        if head and body:
            body = load("encoding").decoded(body, **json.loads(head))
        event = parse(body) if body else {}
    except OverflowError as error:
        return fault(connection, call, 413, "%s\n" % error)
    except (ValueError, RecursionError) as error:
        return fault(connection, call, 400, "the request body is not JSON: %s\n" % error)
    try:
        result = to_json(handler(event)).encode()
    except BaseException as error:  # a handler may raise anything, SystemExit too
        leave_if_forked(error)
        return fault(connection, call, 500, explain(error))
    finally:
        over(call)
    connection.send_body(RESULT, call, NO_HEAD, result)


def flush():
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # the function may have closed or replaced them
        pass


def over(call):
    """All that this call printed leaves."""
    flush()
    if tagging is not None:
        tagging.finish(call)
    elif call and "asyncio" in sys.modules:  # a loop may be kept, with tasks that go on in a later call
        tagged()


def tagged():
    """The module that makes printed lines name their call; they do from now on."""
    global tagging
    if tagging is None:
        tagging = load("tagging")
        tagging.install()
    return tagging


def left():
    """The flag which says that processes are left, so that nobody knows whose what they print is."""
    return LEFT if tagging is not None and tagging.processes() else 0


def fault(connection, call, status, text):
    connection.send(FAULT, END, call, fault_payload(status, text))


def fault_payload(status, text):
    return status.to_bytes(2, "little") + text.encode("utf-8", "replace")[:CHUNK]


def serve(connection, handler):
    bodies = {}
    while True:
        kind, flags, call, payload = connection.receive()
        if kind == CALL:
            start = 4 + int.from_bytes(payload[0:4], "little")
            head, body = payload[4:start], payload[start:]
            if flags & END:
                answer(connection, handler, call, body, head)
            else:
                bodies[call] = head, [body]
                connection.grant(call, len(body))
        elif call in bodies:
            if kind == BODY:
                head, parts = bodies[call]
                parts.append(payload)
                if flags & END:
                    del bodies[call]
                    answer(connection, handler, call, b"".join(parts), head)
                else:
                    connection.grant(call, len(payload))
            elif kind == CANCEL:
                del bodies[call]
                fault(connection, call, 400, "cancelled\n")


def leave_the_worker_alone():
    """In a child that the function forks: the connection is the parent's."""
    os.close(FD)
    connection.fd = -1


def leave_if_forked(error=None):
    """Ends a child that the function forked and let return, as the end of its program would have."""
    if connection.fd >= 0:
        return
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        sys.stderr.write(explain(error))
        code = 1
    flush()
    os._exit(code & 255)


def greet():
    """Says that this process is there, and returns the first frame that makes something of it."""
    connection.send(READY, END, 0, HELLO)
    while True:
        kind, flags, _, payload = connection.receive()
        if kind == WARM:
            zygote = load("zygote")
            zygote.warm(sys.modules["_ol_guest"])
            zygote.forget()
            connection.send(WARMED, END, 0, b"")
        elif kind in (BIND, ZYGOTE):
            return kind, flags, payload


def be_plain():
    """Makes this process what Python makes of any program. It was started with `-S`, because `site` would let whatever lies in the
    base's own package folders run code here, and takes as long as all else. Who starts another Python (multiprocessing, loky)
    hands on the options that `sys.flags` tells, and without `site` that one would not be as under a plain `python3`."""
    import site  # before the flag falls: an import afterwards would look for packages

    site.setquit()
    site.setcopyright()
    site.sethelper()
    try:
        native().clear_flag(NO_SITE)
    except ImportError:  # a Python that loads no extensions: the flag stays, and a zygote says why it can't be
        pass
    if "-S" in getattr(sys, "orig_argv", ()):
        sys.orig_argv.remove("-S")


def native():
    machinery = sys.modules["_frozen_importlib_external"]
    path = HERE + "/_ol_forker.so"
    loader = machinery.ExtensionFileLoader("_ol_forker", path)
    spec = machinery.spec_from_file_location("_ol_forker", path, loader=loader)
    return sys.modules["_frozen_importlib"].module_from_spec(spec)


def main():
    this = sys.modules["_ol_guest"] = sys.modules[__name__]
    # What multiprocessing starts runs the file of `__main__` again; this one is not the function's.
    program = sys.modules["__main__"] = type(sys)("__main__")
    program.__builtins__ = __builtins__
    be_plain()
    load("watch").watch(tagged)  # before any fork: done in each child, it would copy the pages of all that it replaces
    gc.enable()
    sys.stdout.reconfigure(line_buffering=True)
    os.set_inheritable(FD, False)
    while True:
        kind, flags, payload = greet()
        if kind == BIND:
            return be_leaf(flags, payload)
        try:
            load("zygote").become(connection, sections(payload)[0], this)
        except BaseException as error:  # a package may raise anything
            connection.send(BIND_FAILED, END, 0, explain(error).encode("utf-8", "replace")[:CHUNK])
            os._exit(1)


def be_leaf(flags, payload):
    os.register_at_fork(after_in_child=leave_the_worker_alone)
    load("watch").arm()
    parts, last = [payload], flags & END
    while not last:
        kind, more, call, part = connection.receive()
        if kind == BODY and call == 0:
            parts.append(part)
            last = more & END
    bound, run = {"lifespan": False}, serve
    try:
        bound["kind"], handler, keep = bind(b"".join(parts), flags)
        if bound["kind"] != "f":
            server = load(bound["kind"])
            bound["lifespan"] = server.start(connection, handler)
            run = server.serve
    except BaseException as error:  # an import may raise anything, SystemExit too
        leave_if_forked(error)
        over(NOBODY)
        connection.send(BIND_FAILED, END, 0, explain(error).encode("utf-8", "replace")[:CHUNK])
        os._exit(1)
    over(NOBODY)
    if "asyncio" in sys.modules:
        tagged()
    if left():
        bound["left"] = True
    try:
        connection.send(BOUND, END | (COMPILED if keep else 0), 0, sectioned(bound, keep))
        run(connection, handler)
    except OSError:  # writing failed: the worker is gone, or this is a child that came back from the function
        leave_if_forked()
    flush()
    os._exit(0)


JSON = json.JSONDecoder()
HELLO = json.dumps(
    {
        "runtime": "python",
        "version": "%d.%d.%d" % sys.version_info[:3],
        "magic": sys.modules["_frozen_importlib_external"].MAGIC_NUMBER.hex(),
    }
).encode()
to_json = make_encoder()
connection = Connection(FD)
current = ContextVar("call", default=None)
tagging = None
compiled = {}
if __name__ == "__main__":
    main()
