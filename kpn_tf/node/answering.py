"""The other end of the pipes to a process of the node: one JSON object per line, requests in, answers out.

A process ends when its standard input does: with the node.
"""

import json
import os
import queue
import signal
import sys
import threading


def serve(answered):
    """Answers requests, one after the other, for as long as the process lives.

    Args:
        answered: Function from a request, a dict, and a function that sends a dict ahead of the answer, to the answer,
            a dict with `"ok"`. `ValueError` and `FileNotFoundError` become a reason; what else it raises may pass.
    """
    # Whoever stops the node may signal its whole group; the end of standard input is what counts.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # Native code prints where it likes: the answers have a way of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(what):
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    requests = queue.Queue()

    def read():
        for line in sys.stdin:
            requests.put(json.loads(line))
        # The node has gone, perhaps killed: what is half done is hidden, and is swept away.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        request = requests.get()
        try:
            send(answered(request, send))
        except (ValueError, FileNotFoundError) as error:
            send({"ok": False, "reason": str(error)})
        except Exception as error:
            # The disk or the memory, more likely than the series: it is worth another attempt.
            send({"ok": False, "reason": type(error).__name__, "passing": True})
