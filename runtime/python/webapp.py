"""What both kinds of web app need: finding the app in a module that has no f(event), telling WSGI from ASGI, decoding paths.

Kept apart from guest.py because a plain function never needs it.
"""

import functools
import os

from _ol_guest import Refusal

IS_COROUTINE = 0x80  # inspect.CO_COROUTINE


def find_app(module, entry):
    """(kind, app) of the module made from the file `entry`, or an error that names the remedy."""
    for kind, variable in (("wsgi", "OL_WSGI_ENTRY"), ("asgi", "OL_ASGI_ENTRY")):
        name = os.environ.get(variable)
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
    """An ASGI app is a coroutine function, or has one as `__call__`; a class or a wrapped function is asked how it may
    be called: (environ, start_response) is WSGI, (scope, receive, send) is not."""
    if type(app) is type(is_asgi) and not app.__dict__ and app.__code__.co_argcount == 2:
        return bool(app.__code__.co_flags & IS_COROUTINE)  # the usual WSGI function, told without the slow import
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
