import numpy


def f(event):
    numbers = numpy.array(event.get("numbers", [1, 2, 3]), dtype=float)
    return {"numpy": numpy.__version__, "sum": numbers.sum(), "mean": numbers.mean()}
