"""The two sets every system is given: one e-mail address a customer, half of them shared."""

import resource


def emails(side: str, count: int) -> list[str]:
    """The addresses of side "a" or "b"; the last half of a's are the first half of b's."""
    first = 0 if side == "a" else count // 2
    return [f"user{index:09d}@customer-{index % 9973}.example.com" for index in range(first, first + count)]


def report(matched: int, cpu_before: float) -> None:
    """Prints what compare.py reads: matches, and CPU seconds since `cpu_before`, so that start-up and file writing do not count."""
    print(f"RESULT {matched} {cpu_seconds() - cpu_before:.3f}", flush=True)


def cpu_seconds() -> float:
    """CPU time of all this process's threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
