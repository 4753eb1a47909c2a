"""A short conveyor between two threads: it holds a few items and can be stopped from anywhere."""

import collections
import threading

# Windows tells a waiting thread of Ctrl-C only when it wakes.
_WAKE_S = 0.5


class BeltStoppedError(Exception):
    """The belt was stopped: nothing more will come, and nothing more is taken."""


class Belt:
    """A bounded queue whose waiting threads all wake when it is stopped.

    `queue.Queue` can leave a producer waiting for ever once its consumer has died; it can be shut down only
    from Python 3.13 on.

    Args:
        size: Most items on the belt; a further `put` waits.
    """

    def __init__(self, size):
        self._items = collections.deque()
        self._size = size
        self._changed = threading.Condition()
        self._stopped = False

    def put(self, item):
        """Adds an item, waiting for room. Raises `BeltStoppedError` once the belt is stopped."""
        with self._changed:
            self._wait_for(lambda: len(self._items) < self._size)
            self._items.append(item)
            self._changed.notify_all()

    def get(self):
        """Takes the oldest item, waiting for one. Raises `BeltStoppedError` once the belt is stopped."""
        with self._changed:
            self._wait_for(lambda: self._items)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def stop(self):
        """Drops what is on the belt and wakes everybody who waits."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def _wait_for(self, condition):
        while not self._changed.wait_for(lambda: self._stopped or condition(), _WAKE_S):
            pass
        if self._stopped:
            raise BeltStoppedError
