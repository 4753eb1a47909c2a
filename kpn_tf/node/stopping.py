"""How a service is told to stop."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def told_to_stop():
    """Gives a `threading.Event` that SIGTERM and SIGINT set, in place of what they did before."""
    stopping = threading.Event()
    numbers = signal.SIGTERM, signal.SIGINT
    previous = [signal.signal(number, lambda *_: stopping.set()) for number in numbers]
    try:
        yield stopping
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
