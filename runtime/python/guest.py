"""What runs inside a Python sandbox: binds one function, then answers calls on descriptor 3.

The frames are described in docs/reference/guest-protocol.md. The tenant's code runs in this process and can change everything in it, so the
worker trusts nothing here; what protects the host is outside. Two things make it fast: it imports no module that not every call
needs (every call needs `json`), and a frame is one read or one write. What only some functions need lies in files beside this one,
which are read when they are needed:

    guest.py ─┬─ encoding.py   decodes the bodies of requests that are sent as gzip
              ├─ webapp.py     which app the module holds, and of which kind
              ├─ wsgi.py       serves a WSGI app
              ├─ asgi.py       serves an ASGI app ── asgi_call.py, one call ── lifespan.py
              ├─ tagging.py    printed lines that name their call
              └─ zygote.py     imports, and forks processes that start here with everything imported
"""

import sys

HERE = __file__.rpartition("/")[0]
if sys.path[0] == HERE:  # Python looks for imports here first, but these files are only for the runtime
    del sys.path[0]

import gc

gc.disable()  # until the start is over: what is allocated meanwhile stays, and collecting took a tenth of the start's time

import json
import marshal
import os
from _contextvars import ContextVar
from _struct import Struct
from time import perf_counter_ns, tzset

FD = 3
HANDLER = "/handler"  # the folder of the function's code, unless the command line names another
END, COMPILED, BUSY, LEFT = 1, 2, 4, 8
BIND, CALL, BODY, CANCEL, WINDOW, ZYGOTE, WARM = 1, 2, 3, 4, 5, 6, 7
READY, BOUND, BIND_FAILED, RESULT, FAULT, DONE, WARMED = 16, 17, 18, 19, 20, 21, 22
CHUNK = 256 * 1024
GRANT = 256 * 1024  # bytes of a request that are taken before the window grows again; far below the 1 MiB that the worker may be ahead
NOBODY = 0  # in place of a call's number: no call
HEADER = 12
FRAME = Struct("<IBBHI")
NO_HEAD = b"\0\0\0\0"
NO_SITE = 6  # the index of `no_site` in sys.flags


class Connection:
    """Sends and receives frames on the socket. Reads ahead, so that a small frame costs one system call."""

    def __init__(self, fd):
        self.fd = fd
        self.buffer = b""
        self.window = 0
        self.began = 0  # when the last CALL frame was received

    def restart(self):
        """Forgets what the zygote received, in a child that gets a socket of its own."""
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
        """Sends `body` in as many frames as it needs, within the window; the first is of `kind` and begins with `head`."""
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
    """The time since `began` for a frame's header: rounded up, and at most what the field of 16 bits holds."""
    took = (perf_counter_ns() - began) // 1000 + 1
    return took if took < 65536 else 65535


def sections(payload):
    """A sectioned payload as (parsed head or {}, the rest)."""
    length = int.from_bytes(payload[0:4], "little")
    head = scan(payload[4 : 4 + length].decode(), 0)[0] if length else {}
    return head, payload[4 + length :]


def sectioned(head, rest):
    text = to_json(head).encode()
    return len(text).to_bytes(4, "little") + text + rest


class Refusal(Exception):
    """Why the runtime refuses a function, as a text for its author."""


def explain(error):
    """The traceback of `error` and of its causes, without the runtime's own frames."""
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
    """Loads the file `name`.py beside this one as a module.

    The folder is not on sys.path and the module is called `_ol_NAME`, so that modules of the function and of the runtime can't take
    each other's place.
    """
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
    os.chdir(HANDLER)  # in a process forked ahead, the working directory is still the folder below the mount of the code
    sys.path_importer_cache.pop(HANDLER, None)
    # What the function was given is asked below, not os.environ: there, a variable that isn't set costs an exception, and what a zygote
    # imported may have set some.
    environment = head.get("environment", {})
    os.environ.update(environment)
    if "TZ" in environment:
        tzset()
    connection.window = head.get("window", 0)
    current.set(NOBODY)  # what is printed or started from here on belongs to no call
    if head.get("tag"):
        tagged()
    if head.get("site_packages"):
        import site

        sys.path.extend(p for p in site.getsitepackages() if p not in sys.path)
    named, packages = environment.get("PYTHONPATH"), head.get("path", ())
    first = [*(map(os.path.abspath, named.split(":")) if named else ()), *packages]
    sys.path[:0] = [p for p in first if p not in sys.path]
    if packages:  # so that a Python that the function starts finds them too
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
        if len(keep) > CHUNK:  # too long for a frame, so it is compiled anew in each sandbox
            keep = b""
    module = import_entry(entry, path, code)
    handler = getattr(module, "f", None)
    if callable(handler) and not (environment.get("OL_WSGI_ENTRY") or environment.get("OL_ASGI_ENTRY")):
        return "f", handler, keep
    kind, handler = load("webapp").find_app(module, entry, environment)
    return kind, handler, keep


def import_entry(entry, path, code):
    """Runs `code` as the module that `import` would make of `entry`: `src/app.py` becomes `src.app`, after an import of `src`."""
    folder, _, name = entry[:-3].lstrip("./").rpartition("/")
    parent = "" if "." in folder else folder.replace("/", ".")
    if parent:
        __import__(parent)
        name = parent + "." + name
        if name in sys.modules:  # the package imported it already
            return sys.modules[name]
    machinery = sys.modules["_frozen_importlib_external"]  # saves the import of importlib.util
    spec = machinery.spec_from_file_location(name, path)
    module = sys.modules["_frozen_importlib"].module_from_spec(spec)
    sys.modules.setdefault(name, module)  # an entry must not replace a module of the runtime or of Python with the same name
    exec(code, module.__dict__)
    if parent:
        setattr(sys.modules[parent], name.rpartition(".")[2], module)
    return module


def parse(body):
    """The JSON value in `body`. Faster than json.loads for a value in UTF-8 with nothing around it, as most bodies are: there, what
    json.loads does besides parsing takes longer than parsing."""
    try:
        text = body.decode()
        value, end = scan(text, 0)
        if end == len(text):
            return value
    except (ValueError, StopIteration):
        pass
    return json.loads(body)


def make_encoder():
    """A function from values to JSON text, faster than json.dumps.

    One C encoder serves all calls; json.dumps makes one for each call, which takes longer than encoding. If the function replaces
    JSONEncoder.default, the replacement is used, as with json.dumps.
    """
    plain = json.JSONEncoder(allow_nan=False)
    try:
        make, text = json.encoder.c_make_encoder, json.encoder.encode_basestring_ascii
        quick = make(None, lambda value: plain.default(value), text, None, ": ", ", ", False, False, False)
        if "".join(quick({"a": [1, None]}, 0)) == '{"a": [1, null]}':
            return lambda value: "".join(quick(value, 0))
    except Exception:  # c_make_encoder is no documented interface, and may change
        pass
    return plain.encode


def answer(connection, handler, call, body, head=b""):
    """Serves one call of f(event): JSON in, JSON out. If there is a head, it says how to decode the body first."""
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
    """Sends on everything that this call printed."""
    flush()
    if tagging is not None:
        tagging.finish(call)
    elif call and "asyncio" in sys.modules:  # the function may keep a loop, whose tasks go on during later calls
        tagged()


def tagged():
    """Makes printed lines name their call from now on; returns the module that does it."""
    global tagging
    if tagging is None:
        tagging = load("tagging")
        tagging.install()
    return tagging


def left():
    """LEFT if processes that a call started are left over, whose output can't be attributed to a call; else 0."""
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
    """Closes the connection in a child that the function forks, since it is the parent's."""
    os.close(FD)
    connection.fd = -1


def leave_if_forked(error=None):
    """If this is a child that the function forked and that returned to the runtime, ends it as the end of a program would."""
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
    """Sends READY, and returns the first frame that makes this process a leaf or a zygote."""
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
    """Makes this process like one that was started with a plain `python3`, without `-S`.

    It was started with `-S` because `site` would run code from the base's own package folders here, and takes as long as the rest of
    the start. Libraries that start another Python (multiprocessing, loky) pass on the options in `sys.flags`; with `-S` among them,
    that Python would not be like a plain `python3` either.
    """
    import site  # before the flag is cleared: an import afterwards would look for packages

    site.setquit()
    site.setcopyright()
    site.sethelper()
    try:
        native().clear_flag(NO_SITE)
    except ImportError:  # this Python can't load extensions: the flag stays, and a zygote will report the error
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
    global HANDLER
    if len(sys.argv) > 1:
        HANDLER = os.path.abspath(sys.argv.pop(1))
    this = sys.modules["_ol_guest"] = sys.modules[__name__]
    # Processes that multiprocessing starts run the file of `__main__` again, and must not run this one.
    program = sys.modules["__main__"] = type(sys)("__main__")
    program.__builtins__ = __builtins__
    be_plain()
    load("watch").watch(tagged)  # before any fork: in a child, each replaced function would cost copies of its pages
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
    except OSError:  # writing failed: the worker is gone, or this is a child that the function forked and let return
        leave_if_forked()
    flush()
    os._exit(0)


scan = json.JSONDecoder().scan_once
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
