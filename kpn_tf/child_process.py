"""Python processes of our own that answer over pipes: native code that ends or hangs in one does not end its parent."""

import contextlib
import os
import struct
import subprocess
import sys
import threading
import time
import weakref

# What precedes an answer in bytes: status (0 done, 1 refused), and how many bytes follow.
_HEAD = struct.Struct("<BI")


class ChildEndedError(RuntimeError):
    """A child process ended, or was ended, before it had answered.

    Args:
        how: How it ended, as `"signal 11"`.
        timed_out: Whether it was ended because it took too long.
    """

    def __init__(self, how, timed_out):
        super().__init__(f"the process ended without an answer ({how})")
        self.how = how
        self.timed_out = timed_out


class ChildProcess:
    """Starts Python; the process ends with this object, or with its parent.

    Args:
        *words: Arguments of `python`: a script, or `"-m"` and a module, and their arguments.
        stderr: File that gets its standard error; `None` drops that.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, *words, stderr=None):
        self._parent = os.getpid()
        self._process = subprocess.Popen(
            # -P: neither the current folder nor the script's, whose modules have everyday names, is searched.
            [sys.executable, "-P", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if stderr is None else stderr,
        )
        self.close = weakref.finalize(self, _end, self._process, self._parent)

    @property
    def pid(self):
        return self._process.pid

    @property
    def open(self):
        """Whether it was not closed and is this process's own: after a fork, two would read each other's answers."""
        return os.getpid() == self._parent and self.close.alive

    @property
    def running(self):
        """Whether it is open and has not ended."""
        return self.open and self._process.poll() is None

    def ask(self, request, read, timeout_s):
        """Sends a request and waits for the answer. Calls come one at a time.

        Args:
            request: Bytes; none to read what comes after an earlier answer.
            read: Function from the binary file of answers to what is returned; it raises `EOFError` if an answer is
                cut short.
            timeout_s: The process is ended if this takes longer.

        Raises:
            ChildEndedError: If it ended before; it is closed then. After any other error it is closed as well: the
                next answer would belong to this request.
        """
        began = time.monotonic()
        watchdog = threading.Timer(timeout_s, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            return read(self._process.stdout)
        except (OSError, EOFError) as error:
            timed_out = time.monotonic() - began >= timeout_s
            how = self._how()
            self.close()
            raise ChildEndedError(how, timed_out) from error
        except BaseException:
            self.close()
            raise
        finally:
            watchdog.cancel()

    def kill(self):
        """Ends the process whatever it is doing; a thread that waits for its answer is told. From any thread."""
        if self.open:
            self._process.kill()

    def _how(self):
        # It has closed its pipe, and is about to end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.poll()
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def read_answer(answers):
    """Reads one answer in bytes, for `ChildProcess.ask`.

    Args:
        answers: Binary file.

    Returns:
        Status (0 done, 1 refused) and payload, or the reason.

    Raises:
        EOFError: If it is cut short.
    """
    head = answers.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError
    status, length = _HEAD.unpack(head)
    payload = answers.read(length)
    if len(payload) < length:
        raise EOFError
    return status, payload


def _end(process, parent):
    if os.getpid() != parent:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        # What the process did not read any more cannot be written.
        with contextlib.suppress(OSError):
            pipe.close()
