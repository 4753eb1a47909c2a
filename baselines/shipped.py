"""Trained weights of the networks that are compared, which come with the package: `baselines/weights/README.md`."""

import hashlib
import json
from pathlib import Path

FOLDER = Path(__file__).parent / "weights"


def names():
    """Names of the methods whose weights are here, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.keras"))


def record(name):
    """How the weights of a method were trained.

    Args:
        name: Of a `baselines.benchmark.tables.Method`.

    Returns:
        Dict with `key` (everything that decides the training), `training` (what the tables say of it), `run` (its
        configuration and versions) and `log` (losses and validation scores), or `None` if there are no such weights.
    """
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def weights(name):
    """Path of a method's `.keras`, whether it exists or not."""
    return FOLDER / f"{name}.keras"


def file_sha256(name):
    """Names the weights of a method: hexadecimal string."""
    return hashlib.sha256(weights(name).read_bytes()).hexdigest()
