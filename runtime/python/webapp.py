"""What both kinds of web app need: finding the app, telling WSGI from ASGI, decoding paths, and checking answers.

An answer that HTTP doesn't allow raises where the app gives it, so that the app sees the error. (The worker checks again, since it
trusts nothing here.) This is not in guest.py because a plain function never needs it.
"""

import functools

from _ol_guest import Refusal

IS_COROUTINE = 0x80  # inspect.CO_COROUTINE
TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
MOST_LINES = 100  # the most header lines of an answer
MOST_BYTES = 64 * 1024  # the most bytes of all names and values of its headers
BODILESS = (204, 205, 304)


def find_app(module, entry, environment):
    """Returns (kind, app) of the module made from the file `entry`; raises an error that names the remedy.

    `environment` is what the function was given: it may name the app. What the code itself sets names none.
    """
    for kind, variable in (("wsgi", "OL_WSGI_ENTRY"), ("asgi", "OL_ASGI_ENTRY")):
        name = environment.get(variable)
        if name:
            return kind, named(module, entry, name, variable)
    if not hasattr(module, "app"):
        if hasattr(module, "f"):
            raise Refusal("f in %s is not callable: it must be a function f(event)" % entry)
        raise Refusal(
            "%s defines no function f(event) and no app: define one, or name a web app with OL_WSGI_ENTRY or OL_ASGI_ENTRY"
            % entry
        )
    app = named(module, entry, "app", None)
    return ("asgi" if is_asgi(app) else "wsgi"), app


def named(module, entry, name, variable):
    origin = " (%s)" % variable if variable else ""
    app = module
    for part in name.split("."):
        if not hasattr(app, part):
            raise Refusal("%s has no %s%s: define it, or name another" % (entry, name, origin))
        app = getattr(app, part)
    if not callable(app):
        raise Refusal("%s in %s%s is not callable: it must be a WSGI or ASGI app" % (name, entry, origin))
    return app


def is_asgi(app):
    """Whether `app` is an ASGI app: a coroutine function, or an object that has one as `__call__`.

    For a class or a wrapped function the number of arguments decides: (environ, start_response) is WSGI, (scope, receive, send) ASGI.
    """
    if type(app) is type(is_asgi) and not app.__dict__ and app.__code__.co_argcount == 2:
        return bool(app.__code__.co_flags & IS_COROUTINE)  # the usual WSGI function, recognised without the slow import
    import inspect

    while isinstance(app, functools.partial) and not (app.args or app.keywords):
        app = app.func
    inner = app.func if isinstance(app, functools.partial) else app
    if inspect.iscoroutinefunction(inner):
        return True
    if not inspect.isclass(inner) and inspect.iscoroutinefunction(getattr(inner, "__call__", None)):
        return True
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):  # written in C, without a signature
        return False
    return not can_take(signature, 2) and can_take(signature, 3)


def can_take(signature, count):
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def percent_decoded(path):
    """The bytes that `path` stands for."""
    if "%" not in path:
        return path.encode("latin-1")
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path.encode("latin-1"))


class BadAnswer(ValueError):
    """An answer that HTTP doesn't allow. A call that ends with this error is answered 502."""


def checked_status(status):
    if not 200 <= status <= 999:
        why = "informational answers can't be sent, and" if 100 <= status < 200 else "and"
        raise BadAnswer("the status is %d, %s an answer's is from 200 to 999" % (status, why))
    return status


def checked_headers(pairs):
    """Checks header `pairs` of str; returns their Content-Length or None. Raises if a header can't be sent, as web servers do."""
    if len(pairs) > MOST_LINES:
        raise BadAnswer("the answer has %d header lines, and may have %d" % (len(pairs), MOST_LINES))
    size, length = 0, None
    for name, value in pairs:
        size += len(name) + len(value)
        if not name or not TOKEN.issuperset(name):
            raise BadAnswer("%r is no name of a header" % name[:60])
        if not (value.isascii() and value.isprintable()):
            for c in value:
                if (c < " " and c != "\t") or c == "\x7f" or c > "\xff":
                    raise BadAnswer("the value of the header %s holds %r, which HTTP doesn't allow" % (name, c))
        if len(name) == 14 and name.lower() == "content-length":
            if not (value.isascii() and value.isdigit()):
                raise BadAnswer("the Content-Length %r is no number of bytes" % value[:60])
            if length not in (None, int(value[:20])):
                raise BadAnswer("the answer has two values for Content-Length: %d and %s" % (length, value[:20]))
            length = int(value[:20])
    if size > MOST_BYTES:
        raise BadAnswer("the headers of the answer have %d bytes, and may have %d" % (size, MOST_BYTES))
    return length


class Measure:
    """Checks that a body has the length of its Content-Length, if there is one and the body is sent at all."""

    def __init__(self, length, status, method):
        self.left = None if method == "HEAD" or status in BODILESS else length
        self.length = length

    def take(self, size, last):
        """Counts a part of `size` bytes, the last one if `last`. A part for which this raises isn't counted."""
        if self.left is None:
            return
        left = self.left - size
        if left < 0:
            raise BadAnswer("the body is longer than its Content-Length, %d" % self.length)
        if last and left:
            raise BadAnswer("the Content-Length is %d, and the body has %d bytes" % (self.length, self.length - left))
        self.left = left
