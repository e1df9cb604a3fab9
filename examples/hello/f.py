import platform


def f(event):
    name = event.get("name", "world")
    return "Hello %s, from Python %s in a sandbox of your own" % (name, platform.python_version())
