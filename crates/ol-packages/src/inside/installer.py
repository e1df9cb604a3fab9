"""Runs the installer, uv or pip, and derives from its output why it failed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

from order import BUILD, CACHE, OUT, PLACE, Failed

ONLY_BINARY = ["--only-binary", ":all:"]


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
    _, words = run(command + only_binary(order) + pip_index(order), order)
    with open(report) as file:
        found = json.load(file)["install"]
    lines = []
    for item in sorted(found, key=lambda item: item["metadata"]["name"].lower()):
        # pip reports only the hash of the file for this machine; uv lists those of all files.
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
    # Not as arguments: every process on the host may read those, and the URLs may contain passwords.
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
    """Runs a command; returns its output and its messages, or raises Failed with the reason found in the messages."""
    if order.get("seed") and not os.path.exists(CACHE):
        shutil.copytree(order["seed"], CACHE)
    seconds = order.get("seconds") or 300
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PLACE,
                               env=environment(order), start_new_session=True)
    try:
        out, words = (text.decode("utf-8", "replace") for text in process.communicate(timeout=seconds))
    except subprocess.TimeoutExpired:
        raise Failed("timeout", "%s took more than %s s" % (os.path.basename(command[0]), seconds), 504)
    finally:
        # Also kills children that it left behind in its process group; others end with the sandbox.
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


# The first match counts: messages of the earlier kinds may quote messages of the later ones.
REASONS = [
    ("too-large", r"No space left on device|os error 28\b|Disk quota exceeded|File too large"),
    # Not uv or pip itself was killed but a build that it started: when memory runs out, the kernel kills the largest process.
    ("killed", r"signal: 9\b|SIGKILL|exit code: -9\b"),
    ("too-many-processes", r"Resource temporarily unavailable|os error 11\b|can't start new thread"),
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
