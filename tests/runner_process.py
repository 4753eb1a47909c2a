"""An artefact asked in a process of its own, as the benchmark does: TensorFlow's threads are set once a process."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

LINES = (
    "import sys, numpy",
    "from export import runners",
    "path, question, reply, *ways = sys.argv[1:]",
    "batch_hu = numpy.load(question)",
    "numpy.save(reply, [getattr(runners, way)(path, 1)(batch_hu) for way in ways])",
)


def answers(path, batch_hu, *ways):
    """What the artefact makes of `(1, H, W, 1)` in HU, opened by each of some functions of `export.runners`."""
    with tempfile.TemporaryDirectory() as folder:
        question, reply = Path(folder, "question.npy"), Path(folder, "reply.npy")
        np.save(question, batch_hu)
        subprocess.run([sys.executable, "-c", "\n".join(LINES), path, question, reply, *ways], check=True)
        return np.load(reply)
