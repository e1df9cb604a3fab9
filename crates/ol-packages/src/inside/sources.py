"""Fetches sources and finds out what building them needs, without running any of their code."""

import json
import os
import re

from order import CHUNK, FULL, KEPT, Failed, limit, needed


def download(order, pin):
    """Downloads the source archive of a pin whose hash is one of the pin's."""
    import hashlib
    import ssl
    from urllib.parse import urldefrag, urljoin
    from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

    context = ssl.create_default_context(cafile=order.get("certificates") or None)
    proxies = {kind: order["proxy"] for kind in ("http", "https")} if order.get("proxy") else {}
    opener = build_opener(ProxyHandler(proxies), HTTPSHandler(context=context))
    wanted = {one.split(":", 1)[1] for one in needed(order, "hashes", list)}
    name = re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower()
    for index in list(order.get("extra") or []) + [order.get("index") or "https://pypi.org/simple"]:
        url, headers = without_password(index.rstrip("/") + "/" + name + "/")
        try:
            with opener.open(Request(url, headers=dict(headers, Accept="application/vnd.pypi.simple.v1+json, text/html;q=0.1")), timeout=60) as page:
                kind, body = page.headers.get("content-type", ""), page.read(64 << 20)
            files = links(kind, body.decode("utf-8", "replace"))
            for filename, link, digest in files:
                if digest not in wanted or filename.endswith(".whl") or "/" in filename:
                    continue
                place, size = os.path.join(KEPT, filename), 0
                link = urldefrag(urljoin(url, link))[0]
                same = link.split("/")[2] == url.split("/")[2]
                hasher = hashlib.sha256()
                with opener.open(Request(link, headers=headers if same else {}), timeout=60) as source, open(place, "wb") as file:
                    while True:
                        part = source.read(CHUNK)
                        if not part:
                            break
                        size += len(part)
                        if size > limit(order, "max_bytes"):
                            raise Failed("too-large", "%s is larger than %d bytes" % (filename, limit(order, "max_bytes")), 507)
                        hasher.update(part)
                        file.write(part)
                if hasher.hexdigest() != digest:
                    raise Failed("hash-mismatch", "%s has another hash than the index promises" % filename)
                return
        except (ValueError, KeyError, TypeError) as error:
            raise Failed("garbage-index", "%s is no page of a package index: %r" % (url, error))
        except OSError as error:
            if error.errno in FULL:
                raise
            if getattr(error, "code", None) != 404:
                raise Failed("index-unreachable", "%s: %s" % (url, error))
    raise Failed("no-matching-wheel", "%s: the index has no sources with one of the locked hashes" % pin)


def without_password(url):
    import base64
    from urllib.parse import unquote

    found = re.match(r"(\w+://)([^/@]*)@(.*)", url)
    if not found:
        return url, {}
    token = base64.b64encode(unquote(found.group(2)).encode()).decode()
    return found.group(1) + found.group(3), {"Authorization": "Basic " + token}


def links(kind, body):
    if "json" in kind:
        return [(file["filename"], file["url"], file.get("hashes", {}).get("sha256")) for file in json.loads(body)["files"]]
    found = re.findall(r"<a\s[^>]*href=[\"']([^\"'#]+)#sha256=([0-9a-f]{64})", body, re.IGNORECASE)
    return [(link.rsplit("/", 1)[-1], link.replace("&amp;", "&"), digest) for link, digest in found]


def build_requires(source):
    """What `pyproject.toml` says building needs. Read, not run; a list of texts is the same in TOML and in Python."""
    import ast

    try:
        text = pyproject(source)
    except Exception as error:  # tarfile and zipfile let all kinds through when an archive is broken on purpose
        raise Failed("bad-sources", "%s can't be read: %r" % (os.path.basename(source), error))
    section = re.search(r"^\s*\[build-system\]\s*$(.*?)(?=^\s*\[[^\[\]\"']+\]\s*$|\Z)", text or "", re.MULTILINE | re.DOTALL)
    if not section:
        return ["setuptools>=40.8.0", "wheel"]
    found = re.search(r"^\s*requires\s*=\s*(\[(?:[^\]\"']|\"[^\"]*\"|'[^']*')*\])", section.group(1), re.MULTILINE)
    try:
        requires = ast.literal_eval(found.group(1)) if found else []
        if not all(isinstance(one, str) for one in requires):
            raise ValueError("they are not all texts")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Failed("build-failed", "pyproject.toml: requires can't be read: %s" % error)
    # setuptools may ask for wheel only when it runs, which is too late to fetch it.
    return requires + (["wheel"] if any(one.startswith("setuptools") for one in requires) else [])


def pyproject(source):
    """The text of `pyproject.toml` in an archive, None if it has none."""
    import tarfile

    text = None
    if source.endswith(".zip"):
        import zipfile

        with zipfile.ZipFile(source) as archive:
            name = next((name for name in archive.namelist() if re.fullmatch(r"[^/]+/pyproject\.toml", name)), None)
            if name:
                with archive.open(name) as file:
                    text = file.read(CHUNK).decode("utf-8", "replace")
    else:
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile() and re.fullmatch(r"(\./)?[^/]+/pyproject\.toml", member.name):
                    text = archive.extractfile(member).read(CHUNK).decode("utf-8", "replace")
                    break
    return text
