"""What a node logs: one JSON object per line on standard error, and nothing that tells whose images these are.

Series are named by a keyed hash of patient, study and series: the same in every line and on the status page, and of no
use to anybody who has not the journal.
"""

import hashlib
import hmac
import json
import logging
import sys
import threading
import traceback
import warnings

_LOGGER = logging.getLogger("kpn_tf.node")


def start():
    """Sends lines to standard error, and what libraries say of what was received nowhere; for a whole process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    for library in ("pydicom", "pynetdicom"):
        foreign = logging.getLogger(library)
        foreign.handlers = [logging.NullHandler()]
        foreign.propagate = False
        foreign.setLevel(logging.CRITICAL + 1)
    threading.excepthook = _thread_died
    # pydicom warns with the offending value in the text.
    warnings.simplefilter("ignore")


def info(event, **fields):
    """Logs that something happened."""
    _LOGGER.info(event, extra={"fields": fields})


def warning(event, **fields):
    """Logs that something needs somebody's attention."""
    _LOGGER.warning(event, extra={"fields": fields})


def pseudonym(key, series_key):
    """Returns the name of a series in logs.

    Args:
        key: Secret of the journal, bytes.
        series_key: Tells the series from all others.

    Example:

    >>> pseudonym(b"secret", "1.2.3")
    '48df62b60b2d'
    """
    return hmac.new(key, series_key.encode(), hashlib.sha256).hexdigest()[:12]


class _Lines(logging.Formatter):
    def format(self, record):
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line)


def _thread_died(arguments):
    # Its text could quote what was received; where it happened cannot.
    where = traceback.extract_tb(arguments.exc_traceback)[-1:]
    place = f"{where[0].filename.rpartition('/')[2]}:{where[0].lineno}" if where else "?"
    warning("thread died", error=arguments.exc_type.__name__, place=place)
