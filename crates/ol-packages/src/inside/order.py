"""The worker's orders: reading them, how they fail, and the folders that they use."""

import errno
import json
import os
import re
import shutil

PLACE = os.environ.get("OL_INSTALL_DIR", "/tmp/install")
OUT, CACHE, KEPT, BUILD = (os.path.join(PLACE, name) for name in ("out", "cache", "kept", "build"))
CHUNK = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Failed(Exception):
    def __init__(self, code, words, status=422):
        super().__init__(code)
        self.code, self.words, self.status = code, words, status


def read(environ):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else environ["wsgi.input"].read()
    try:
        order = json.loads(body)
        if not isinstance(order, dict):
            raise ValueError("an object is needed")
    except ValueError as error:
        raise Failed("bad-order", "the order is not JSON: %s" % error, 400)
    return order


def needed(order, key, kind):
    if not isinstance(order.get(key), kind):
        raise Failed("bad-order", "%s is missing or of another type" % key, 400)
    return order[key]


def limit(order, key):
    # The same limits as the store's defaults.
    return order.get(key) or {"max_bytes": 4 << 30, "max_files": 60000}[key]


def masked(text, order):
    """`text` with the user names and passwords of all URLs masked."""
    from urllib.parse import unquote

    for url in [order.get("index"), order.get("proxy")] + list(order.get("extra") or []):
        found = re.match(r"\w+://([^/@]*)@", url or "")
        for part in {found.group(1).split(":", 1)[-1], unquote(found.group(1).split(":", 1)[-1])} if found else ():
            text = text.replace(part, "****") if part else text
    return re.sub(r"(\w://)[^/\s\"'@]*@", r"\1****@", text)


def fresh(folder):
    if os.path.lexists(folder):
        shutil.rmtree(folder)
    os.makedirs(folder)


def written(name, text):
    path = os.path.join(PLACE, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path
