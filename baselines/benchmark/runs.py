"""The folder of a benchmark's runs: what is finished is found again, and never done twice."""

import hashlib
import json
from pathlib import Path

from kpn_tf.files import write_text


class Runs:
    """Results by name and by what decided them.

    Args:
        folder: Made when something is kept.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def recall(self, name, key):
        """What was kept under this name with this key, or `None`.

        Args:
            name: A word.
            key: Dict of everything that decides the result, for `json.dumps`.
        """
        try:
            return json.loads(self._path(name, key).read_text(encoding="utf-8"))["result"]
        except (FileNotFoundError, ValueError):
            return None  # A file that is no document is not finished: it will be replaced.

    def keep(self, name, key, result):
        """Keeps a result, a dict for `json.dumps`, atomically; returns it as it will be recalled."""
        path = self._path(name, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"name": name, "key": key, "result": result}, indent=2)
        write_text(path, text + "\n")
        return json.loads(text)["result"]

    def training_folder(self, name, key):
        """Where a training of this name and key goes on."""
        return self.folder / "trainings" / f"{name}-{digest(key)}"

    def _path(self, name, key):
        return self.folder / "rows" / f"{name}-{digest(key)}.json"


def digest(key):
    """Twelve hexadecimal digits that name a key.

    Example:

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})
    True
    """
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
