import time


def f(event):
    seconds = event.get("seconds", 60)
    time.sleep(seconds)
    return "slept for %s s" % seconds
