"""The node's side of a process of its own: made when needed, ended when it hangs."""

import json
import threading

from kpn_tf.child_process import ChildEndedError, ChildProcess
from kpn_tf.node import log
from kpn_tf.node.network.self_test import SelfTestError


class WorkerError(RuntimeError):
    """The process ended, or was ended, before it answered."""


class Worker:
    """A process that answers what it is asked. Calls come one at a time.

    Args:
        stall_s: The process is ended when it says nothing for so long.
        module: What it runs; it calls `kpn_tf.node.answering.serve`.
    """

    def __init__(self, stall_s, module="kpn_tf.node.network.worker"):
        self._stall_s = stall_s
        self._module = module
        self._process = None
        self._lock = threading.Lock()
        self._stopped = False

    def ask(self, request, progress=None):
        """Sends a request and waits for its answer.

        Args:
            request: Dict, as the module takes it.
            progress: Function that is told how many slices are done, or `None`.

        Returns:
            The answer, a dict.

        Raises:
            WorkerError: If there is none.
        """
        process = self._running()
        line = (json.dumps(request) + "\n").encode()
        try:
            while "ok" not in (answer := process.ask(line, _read, self._stall_s)):
                if progress is not None:
                    progress(answer["slice"])
                line = b""
        except (ChildEndedError, ValueError) as error:
            # It may still be about to end: it is never asked again.
            raise WorkerError("the network's process ended without an answer") from error
        return answer

    def stop(self):
        """Ends the process, whatever it is doing. No other is made."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _running(self):
        with self._lock:
            if self._stopped:
                raise WorkerError("the node is stopping")
            if self._process is None or not self._process.running:
                self._process = ChildProcess("-m", self._module)
            return self._process


def _read(answers):
    line = answers.readline()
    if not line:
        raise EOFError
    return json.loads(line)


def tested_worker(settings):
    """Returns a `Worker` whose networks, all that the rules of `Settings` name, do what they are for.

    Raises:
        SelfTestError: If one does not.
        WorkerError: If the process cannot be started.
    """
    worker = Worker(settings.limits.stall_s)
    for weights in sorted({rule.weights for rule in settings.rule if rule.weights}):
        node = settings.node
        answer = worker.ask({"weights": weights, "device": node.device, "threads": node.threads})
        if not answer["ok"]:
            worker.stop()
            raise SelfTestError(f"weights {weights}: {answer['reason']}")
        told = ("model", "file_sha256", "weights_sha256", "device")
        log.info("network tested", weights=weights, **{name: answer[name] for name in told})
    return worker
