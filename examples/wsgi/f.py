"""A guest book: a web app without any framework. Flask, Django and the like look the same to the worker: an `app`."""

from html import escape
from urllib.parse import parse_qs

PAGE = """<!doctype html>
<title>Guest book</title>
<h1>Guest book</h1>
<form method="post" action="%s/sign">
  <input name="name" placeholder="Your name" required>
  <button>Sign</button>
</form>
<ul>%s</ul>
"""

guests = []


def book(environ):
    entries = "".join("<li>%s</li>" % escape(guest) for guest in guests)
    # SCRIPT_NAME is where the app is reached, /run/wsgi, so links work whatever it is called.
    return "200 OK", {"Content-Type": "text/html; charset=utf-8"}, PAGE % (environ["SCRIPT_NAME"], entries)


def sign(environ):
    form = parse_qs(environ["wsgi.input"].read().decode())
    name = form.get("name", [""])[0].strip()
    if not name:
        return "400 Bad Request", {"Content-Type": "text/plain"}, "A name is needed.\n"
    guests.append(name)
    return "303 See Other", {"Location": environ["SCRIPT_NAME"] + "/"}, ""


def nowhere(environ):
    return "404 Not Found", {"Content-Type": "text/plain"}, "There is no %s here.\n" % environ["PATH_INFO"]


ROUTES = {("GET", "/"): book, ("POST", "/sign"): sign}


def app(environ, start_response):
    handler = ROUTES.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]), nowhere)
    status, headers, text = handler(environ)
    start_response(status, list(headers.items()))
    return [text.encode()]
