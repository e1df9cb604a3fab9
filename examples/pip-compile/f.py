"""Pins requirements: takes lines as of a requirements.txt, returns the exact set that satisfies them.

It asks an index, so it needs a network when it is called. uv reads its settings from the environment, which ol.yaml sets:
UV_DEFAULT_INDEX names an index of your own, SSL_CERT_FILE the certificates of a network that has a CA of its own.
"""

import subprocess
import sys

from uv import find_uv_bin

COMMAND = ["pip", "compile", "--no-header", "--no-annotate", "--no-python-downloads", "--cache-dir", "/tmp/uv"]


def f(event):
    lines = "\n".join(event["requirements"])
    done = subprocess.run(
        [find_uv_bin(), *COMMAND, "--python", sys.executable, "-"],
        input=lines, capture_output=True, text=True,
    )
    if done.returncode != 0:
        return {"error": done.stderr.strip()}
    return {"pinned": done.stdout.split("\n")[:-1]}
