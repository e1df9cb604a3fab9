def f(event):
    return {"you sent": event}
