"""pydicom's warnings, held back while a file is read."""

import threading
import warnings


class _QuietWarnings:
    """Context manager that ignores warnings, safe to hold from several threads at once.

    pydicom warns with the offending value in the text (a birth date, a name that is too long): patient data
    on the terminal. `warnings.catch_warnings` alone would leave the filters changed for good when two threads
    leave it in the wrong order, so only the first thread in and the last thread out touch them.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._depth = 0
        self._catch = None

    def __enter__(self):
        with self._lock:
            if self._depth == 0:
                self._catch = warnings.catch_warnings()
                self._catch.__enter__()
                warnings.simplefilter("ignore")
            self._depth += 1

    def __exit__(self, *exception):
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._catch.__exit__(None, None, None)
                self._catch = None


quiet_warnings = _QuietWarnings()
