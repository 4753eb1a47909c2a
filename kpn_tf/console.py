"""What commands write to a terminal: lines, notes and a progress bar."""

import contextlib
import os
import sys

from tqdm import tqdm


class Notes:
    """Says what is left out, and remembers whether any of it is a failure; called with `(line, failure)`."""

    def __init__(self):
        self.failures = []

    def __call__(self, line, failure):
        if failure:
            self.failures.append(line)
        say(f"{'failed' if failure else 'skipped'}: {line}", sys.stderr)


def bar(slices, total):
    """A context manager: slices that move a progress bar, where there is a terminal, and are closed at the end."""
    return contextlib.closing(
        tqdm(slices, total=total, unit="slice", file=sys.stderr, disable=None, leave=False)
    )


def say(line, stream):
    """Prints one line above the progress bar, control characters escaped: the names are strangers'."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    tqdm.write(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def printable(text):
    """Escapes what would move the cursor, start a new line or not encode.

    Example:

    >>> printable("liver\\x1b[2J\\n")
    'liver\\\\x1b[2J\\\\n'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


@contextlib.contextmanager
def silenced():
    """Silences standard error of native code: LiteRT announces its delegate there at each start."""
    sys.stderr.flush()
    kept = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(silence)
        os.close(kept)
