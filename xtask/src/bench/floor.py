"""The Python half of floor-http: no sandbox, no isolation, nothing but the work itself.

Standard input is a Unix socket. Both ways: a four-byte little-endian length, then that much JSON.
"""

import json
from os import read, write


def f(event):
    return event


def serve():
    loads, dumps = json.loads, json.JSONEncoder().encode
    while True:
        frame = read(0, 65536)
        if not frame:
            return
        missing = 4 + int.from_bytes(frame[:4], "little") - len(frame)
        while missing > 0:
            more = read(0, missing)
            missing -= len(more)
            frame += more
        answer = dumps(f(loads(str(frame[4:], "utf-8")))).encode()
        write(0, len(answer).to_bytes(4, "little") + answer)


serve()
