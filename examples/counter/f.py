import os

# Made when a sandbox starts, kept while it lives. Another sandbox counts on its own, so use this for caches and
# connections, never for what must not be lost.
count = 0


def f(event):
    global count
    count += 1
    return {"count": count, "pid": os.getpid()}
