"""Resolves and installs packages; runs in a sandbox of its own, whose only way out is a proxy to the package index.

    POST /resolve   requirements            -> JSON {"lock", "words"}
    POST /fetch     one pinned package      -> JSON {"files"}: its sources and what building them needs, kept in /tmp
    POST /install   one pinned package      -> a plain tar of its files, compiled
    any failure                             -> JSON {"code", "words"}, status 422 (507: too large, 504: timeout, 400: bad order)

An order is a JSON object:

    requirements, constraints   texts for /resolve
    pin, hashes                 "NAME==VERSION" and ["sha256:..."] for /fetch and /install
    allow_sdist                 may code of packages be run, to build them or to learn what they need? false: wheels only
    fetched                     true: build what /fetch kept, offline (the proxy should be closed by now)
    wheels                      a folder of wheels to use instead of the index, offline
    index, extra                URLs; they may hold passwords, which are masked in all words
    proxy, certificates         "http://127.0.0.1:3128", a PEM file
    uv                          path of the program; null: pip does it, slower
    python                      the interpreter that functions use; this one by default
    seconds, max_bytes, max_files, retries   limits

/install takes wheels, which run nothing. Where there is none ("no-matching-wheel") sources take two steps, since a build runs
their author's program: /fetch brings them and everything that building needs (as wheels), running nothing of theirs; then
the worker closes the proxy and calls /install with "fetched". So no build ever has a network. Only /resolve with allow_sdist
may run such a program while the index can be reached, if sources don't say what they need in any other way.

Compiled files are of the kind "unchecked hash": Python then uses them without looking at their source at all. Those with a
time would be compiled again whenever the unpacked source's time differs, and those with a checked hash would have every
source read again at each import. Packages are read-only, so the source can't change.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

PLACE = os.environ.get("OL_INSTALL_DIR", "/tmp/install")
OUT, CACHE, KEPT, BUILD = (os.path.join(PLACE, name) for name in ("out", "cache", "kept", "build"))
CHUNK = 1 << 20
ONLY_BINARY = ["--only-binary", ":all:"]
WORDS = 16000  # characters of the installer's own words that are told


class Failed(Exception):
    def __init__(self, code, words, status=422):
        super().__init__(code)
        self.code, self.words, self.status = code, words, status


def app(environ, start_response):
    order = {}
    try:
        order = read_order(environ)
        action = {"/resolve": resolve, "/fetch": fetch, "/install": install}.get(environ["PATH_INFO"])
        if action is None or environ["REQUEST_METHOD"] != "POST":
            raise Failed("bad-order", "POST /resolve, /fetch or /install", 400)
        kind, body = action(order)
    except Failed as failure:
        words = masked(failure.words.strip(), order)
        if len(words) > WORDS:
            words = words[: WORDS // 2] + "\n[...]\n" + words[-WORDS // 2 :]
        told = json.dumps({"code": failure.code, "words": words}).encode()
        start_response("%d Failed" % failure.status, [("Content-Type", "application/json"), ("Content-Length", str(len(told)))])
        return [told]
    start_response("200 OK", [("Content-Type", kind)])
    return body


def read_order(environ):
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


# --- the three actions ---


def resolve(order):
    fresh(PLACE)
    wanted = written("requirements.in", needed(order, "requirements", str))
    if order.get("uv"):
        command = [order["uv"], "pip", "compile", "--no-config", "--no-header", "--no-annotate", "--generate-hashes",
                   "--python", python(order), "--index-strategy", "unsafe-best-match", wanted]
        if order.get("constraints"):
            command += ["--constraints", written("constraints.in", order["constraints"])]
        command += only_binary(order) + uv_index(order)
        lock, words = run(command, order)
    else:
        lock, words = pip_resolve(order, wanted)
    return "application/json", [json.dumps({"lock": lock, "words": masked(words, order)}).encode()]


def fetch(order):
    """Downloads without running anything: sources, and wheels of what their build needs."""
    pin = needed(order, "pin", str)
    fresh(PLACE)
    os.makedirs(KEPT)
    download(order, pin)
    source = next((name for name in os.listdir(KEPT) if not name.endswith(".whl")), None)
    if source:
        requires = build_requires(os.path.join(KEPT, source))
        if requires:
            wanted = written("build.in", "\n".join(requires))
            install_wheels(order, ["-r", wanted], BUILD)
    return "application/json", [json.dumps({"files": sorted(os.listdir(KEPT))}).encode()]


def install(order):
    pin = needed(order, "pin", str)
    hashes = needed(order, "hashes", list)
    if not hashes:
        raise Failed("bad-order", "%s has no hashes" % pin, 400)
    if not order.get("fetched"):
        fresh(PLACE)
    fresh(OUT)
    wanted = written("pin.txt", pin + "".join(" \\\n    --hash=%s" % one for one in hashes) + "\n")
    rest, kinds = ["--require-hashes", "-r", wanted], ONLY_BINARY
    if order.get("fetched"):
        # The folder of wheels is that of the sources: offline in any case.
        order = dict(order, wheels=KEPT)
        if order.get("allow_sdist"):
            rest, kinds = rest + ["--no-build-isolation"], []
    install_wheels(order, rest, OUT, kinds)
    files = tidy(order)
    compile_all(order, files)
    return "application/x-tar", tar(listed(order))


# --- running the installer ---


def install_wheels(order, what, target, kinds=ONLY_BINARY):
    if order.get("uv"):
        command = [order["uv"], "pip", "install", "--no-config", "--no-progress", "--python", python(order), "--target", target,
                   "--link-mode", "hardlink"]
        if target == OUT:
            command += ["--no-deps"]
        command += list(kinds) + uv_index(order) + what
    else:
        command = pip(order) + ["install", "--no-compile", "--target", target] + list(kinds) + pip_index(order) + what
        command += ["--no-deps"] if target == OUT else []
    run(command, order)


def only_binary(order):
    return [] if order.get("allow_sdist") else ONLY_BINARY


def uv_index(order):
    return ["--offline", "--no-index", "--find-links", order["wheels"]] if order.get("wheels") else []


def pip(order):
    return [python(order), "-m", "pip", "--no-input", "--disable-pip-version-check"]


def pip_index(order):
    return ["--no-index", "--find-links", order["wheels"]] if order.get("wheels") else []


def pip_resolve(order, wanted):
    report = os.path.join(PLACE, "report.json")
    command = pip(order) + ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", report, "-r", wanted]
    if order.get("constraints"):
        command += ["-c", written("constraints.in", order["constraints"])]
    _, words = run(command + only_binary(order) + pip_index(order), order)
    with open(report) as file:
        found = json.load(file)["install"]
    lines = []
    for item in sorted(found, key=lambda item: item["metadata"]["name"].lower()):
        # One hash only, of the file that this machine gets; uv tells those of all files.
        hashes = item["download_info"]["archive_info"]["hashes"]
        lines.append("%s==%s \\\n    --hash=sha256:%s\n" % (item["metadata"]["name"].lower(), item["metadata"]["version"], hashes["sha256"]))
    return "".join(lines), words


def python(order):
    return order.get("python") or sys.executable


def environment(order):
    known = {
        "PATH": "/usr/bin:/bin",
        "HOME": PLACE,
        "TMPDIR": PLACE,
        "LANG": "C.UTF-8",
        "UV_CACHE_DIR": CACHE,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_HTTP_TIMEOUT": "30",
        "UV_HTTP_RETRIES": str(order.get("retries", 3)),
        "PIP_RETRIES": str(order.get("retries", 3)),
        "PIP_CACHE_DIR": CACHE,
        "PIP_CONFIG_FILE": os.devnull,
        "NO_COLOR": "1",
        "SOURCE_DATE_EPOCH": "315532800",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if order.get("certificates"):
        known["SSL_CERT_FILE"] = known["PIP_CERT"] = order["certificates"]
    # Not as arguments: everybody on the host may read those, and the URLs may hold passwords.
    if order.get("index") and not order.get("wheels"):
        known["UV_DEFAULT_INDEX"] = known["PIP_INDEX_URL"] = order["index"]
    if order.get("extra") and not order.get("wheels"):
        known["UV_INDEX"] = known["PIP_EXTRA_INDEX_URL"] = " ".join(order["extra"])
    if order.get("proxy") and not order.get("wheels"):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            known[name] = order["proxy"]
    if os.path.isdir(BUILD):
        known["PYTHONPATH"] = BUILD
    return known


def run(command, order):
    """Its output and its words, or Failed with the reason that its words give."""
    seconds = order.get("seconds") or 300
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PLACE,
                               env=environment(order), start_new_session=True)
    try:
        out, words = (text.decode("utf-8", "replace") for text in process.communicate(timeout=seconds))
    except subprocess.TimeoutExpired:
        raise Failed("timeout", "%s took more than %s s" % (os.path.basename(command[0]), seconds), 504)
    finally:
        # Also what it started and left behind, if that is still of its session; the rest ends with the sandbox.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass
        if process.returncode is None:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
    if process.returncode != 0:
        words = words.strip() or out.strip()
        if process.returncode == -9:
            raise Failed("killed", "%s was killed, as when memory runs out\n%s" % (os.path.basename(command[0]), words))
        raise Failed(reason(words), words)
    return out, words


# First come those whose words may hold the words of others.
REASONS = [
    ("too-large", r"No space left on device|os error 28\b|Disk quota exceeded|File too large"),
    ("hash-mismatch", r"[Hh]ash mismatch|DO NOT MATCH THE HASHES|Hashes are required"),
    ("build-failed", r"build backend|Failed to build|[Bb]uild_wheel|metadata-generation-failed|building wheel|setup\.py"),
    ("index-unreachable", r"error sending request|[Ff]ailed to fetch|[Ff]ailed to download|Connection (?:refused|reset|broken)|"
     r"[Tt]imed out|timeout|dns error|tunnel|ProxyError|NewConnectionError|SSLError|invalid peer certificate|Network connectivity"),
    ("bad-requirement", r"[Cc]ouldn't parse requirement|Invalid requirement|Expected (?:one of|package name|a valid)"),
    ("garbage-index", r"unexpected (?:HTML|JSON)|Unsupported `Content-Type`|[Cc]ouldn't parse|expected value at line"),
    ("bad-wheel", r"[Ff]ailed to (?:unzip|extract|read|install)|[Ii]nvalid (?:zip|wheel)|Wheel .* is invalid|[Bb]ad (?:zip|local)|dist-info|unable to locate the end|outside (?:of )?the"),
    ("no-matching-wheel", r"no (?:usable )?wheels|[Nn]o .*wheels? with a matching|has no .*wheel|no matching distribution|only-binary|"
     r"building from source is disabled|requires building"),
    ("unsatisfiable", r"[Nn]o solution found|unsatisfiable|ResolutionImpossible|was not found in the|not found in the package registry|Could not find a version|"
     r"No matching distribution|there (?:is|are) no version"),
]


def reason(words):
    for code, pattern in REASONS:
        if re.search(pattern, words):
            return code
    return "failed"


def masked(text, order):
    """Without names and passwords of URLs, wherever they came from."""
    from urllib.parse import unquote

    for url in [order.get("index"), order.get("proxy")] + list(order.get("extra") or []):
        found = re.match(r"\w+://([^/@]*)@", url or "")
        for part in {found.group(1).split(":", 1)[-1], unquote(found.group(1).split(":", 1)[-1])} if found else ():
            text = text.replace(part, "****") if part else text
    return re.sub(r"(\w://)[^/\s\"'@]*@", r"\1****@", text)


# --- sources: fetched without being run ---


def download(order, pin):
    """The sources of a pin whose hash is among its hashes."""
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
        except OSError as error:
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
    import tarfile

    text = None
    if source.endswith(".zip"):
        import zipfile

        with zipfile.ZipFile(source) as archive:
            name = next((name for name in archive.namelist() if re.fullmatch(r"[^/]+/pyproject\.toml", name)), None)
            text = archive.read(name).decode("utf-8", "replace") if name else None
    else:
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile() and re.fullmatch(r"(\./)?[^/]+/pyproject\.toml", member.name):
                    text = archive.extractfile(member).read(CHUNK).decode("utf-8", "replace")
                    break
    section = re.search(r"^\s*\[build-system\]\s*$(.*?)(?=^\s*\[[^\[\]\"']+\]\s*$|\Z)", text or "", re.MULTILINE | re.DOTALL)
    if not section:
        return ["setuptools>=40.8.0", "wheel"]
    found = re.search(r"^\s*requires\s*=\s*(\[(?:[^\]\"']|\"[^\"]*\"|'[^']*')*\])", section.group(1), re.MULTILINE)
    try:
        requires = ast.literal_eval(found.group(1)) if found else []
    except (SyntaxError, ValueError) as error:
        raise Failed("build-failed", "pyproject.toml: requires can't be read: %s" % error)
    # What setuptools asks for once it runs is too late to fetch.
    return requires + (["wheel"] if any(one.startswith("setuptools") for one in requires) else [])


# --- what was installed ---


def tidy(order):
    """Takes away what can't be of use elsewhere; returns the Python files."""
    # Commands name this sandbox's interpreter in their first line and nobody has this folder on a PATH. Those that are
    # programs of their own (as of ruff) stay.
    scripts = os.path.join(OUT, "bin")
    if os.path.isdir(scripts):
        for name in os.listdir(scripts):
            path = os.path.join(scripts, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    if file.read(2) == b"#!":
                        os.remove(path)
        if not os.listdir(scripts):
            os.rmdir(scripts)
    # uv's lock, and notes of when and from where it was installed, which differ each time.
    for name in os.listdir(OUT):
        if name == ".lock":
            os.remove(os.path.join(OUT, name))
        if name.endswith(".dist-info"):
            for note in ("uv_cache.json", "REQUESTED", "direct_url.json"):
                path = os.path.join(OUT, name, note)
                if os.path.lexists(path):
                    os.remove(path)
    return [path for path, kind in listed(order) if kind == "file" and path.endswith(".py")]


def limit(order, key):
    return order.get(key) or {"max_bytes": 2 << 30, "max_files": 100000}[key]


def listed(order):
    """All entries below OUT, sorted, each with its kind; Failed if they are too many or too large."""
    entries, size = [], 0

    def look(folder):
        nonlocal size
        for entry in sorted(os.scandir(os.path.join(OUT, folder)), key=lambda entry: entry.name):
            path = os.path.join(folder, entry.name)
            if entry.is_symlink():
                entries.append((path, "link"))
            elif entry.is_dir():
                entries.append((path, "folder"))
                look(path)
            elif entry.is_file():
                entries.append((path, "file"))
                size += entry.stat().st_size
            if len(entries) > limit(order, "max_files"):
                raise Failed("too-large", "more than %d files" % limit(order, "max_files"), 507)
            if size > limit(order, "max_bytes"):
                raise Failed("too-large", "more than %d bytes" % limit(order, "max_bytes"), 507)

    look("")
    return entries


def compile_all(order, files):
    """Compiles in as many processes as there are cores, by the interpreter that will use it. What can't be compiled (templates,
    code of another Python) stays as it is: importing it says why."""
    if order.get("compile") is False or not files:
        return
    cores = min(len(os.sched_getaffinity(0)), 1 + len(files) // 50)
    processes = []
    for core in range(cores):
        command = [python(order), "-I", "-S", "-c", COMPILE, OUT]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment({}))
        process.stdin.write("\n".join(files[core::cores]).encode("utf-8", "surrogateescape"))
        process.stdin.close()
        processes.append(process)
    for process in processes:
        words = process.stderr.read().decode("utf-8", "replace")
        process.stderr.close()
        if process.wait() != 0:
            raise Failed("too-large" if "Errno 28" in words else "compile-failed", words)


COMPILE = """
import importlib.util, marshal, os, sys, warnings
from importlib._bootstrap_external import _code_to_hash_pyc
warnings.simplefilter("ignore")
for path in sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\\n"):
    place = os.path.join(sys.argv[1], path)
    with open(place, "rb") as file:
        source = file.read()
    try:
        # The path in it is replaced by the real one when it is imported.
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        continue
    data = _code_to_hash_pyc(code, importlib.util.source_hash(source), False)
    target = importlib.util.cache_from_source(place)
    try:
        os.mkdir(os.path.dirname(target))
    except FileExistsError:
        pass
    with open(target, "wb") as file:
        file.write(data)
"""


def tar(entries):
    """A plain tar of them, the same for the same files: sorted, owned by nobody in particular, of one time."""
    import tarfile

    for path, kind in entries:
        place = os.path.join(OUT, path)
        entry = tarfile.TarInfo(path)
        entry.mtime = 315532800  # the first time that a zip can tell
        entry.mode = 0o755
        if kind == "folder":
            entry.type = tarfile.DIRTYPE
        elif kind == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(place)
        else:
            stat = os.stat(place)
            entry.size = stat.st_size
            entry.mode = 0o755 if stat.st_mode & 0o100 else 0o644
        yield from blocks(entry, place)
    yield bytes(1024)


def blocks(entry, place):
    import tarfile

    head = entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if not entry.size:
        yield head
        return
    left, first = entry.size, head
    with open(place, "rb") as file:
        while left:
            part = file.read(min(CHUNK, left))
            if not part:
                raise OSError("%s became shorter while it was read" % entry.name)
            left -= len(part)
            yield first + part + (b"" if left else bytes(-entry.size % 512))
            first = b""


# --- places ---


def fresh(folder):
    if os.path.lexists(folder):
        shutil.rmtree(folder)
    os.makedirs(folder)


def written(name, text):
    path = os.path.join(PLACE, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path
