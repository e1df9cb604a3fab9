import os


def f(event):
    return {"greeting": os.environ["GREETING"]}
