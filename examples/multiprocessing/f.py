"""Counts primes with several processes at once."""

import multiprocessing
import os


def is_prime(number):
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def count_primes(span):
    return os.getpid(), sum(map(is_prime, range(*span)))


def f(event):
    upto, workers = event.get("upto", 100_000), event.get("workers", 4)
    step = -(-upto // workers)
    spans = [(start, min(start + step, upto)) for start in range(0, upto, step)]
    with multiprocessing.Pool(workers) as pool:
        counts = pool.map(count_primes, spans, chunksize=1)
    return {"primes": sum(count for _, count in counts), "processes": len({pid for pid, _ in counts})}
