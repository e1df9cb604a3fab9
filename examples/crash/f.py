"""Three ways to go wrong. Only the call itself is lost; the next one is served as if nothing had been."""

import os


def f(event):
    how = event.get("how")
    if how == "raise":  # 500 with this traceback; the sandbox goes on
        raise RuntimeError("raised on purpose")
    if how == "exit":  # 502: the process ended; the next call gets a new sandbox
        os._exit(3)
    if how == "memory":  # 502 that names the limit
        kept = []
        while True:
            kept.append(bytearray(1 << 20))
    return {"how": "try raise, exit or memory"}
