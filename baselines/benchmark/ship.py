"""`python -m baselines.benchmark.ship RUNS NAME FOLDER`: trained weights of a benchmark in half precision."""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np

from kpn_tf.files import write_text
from kpn_tf.training.run_folder import read_log

_WEIGHTS = "model.weights.h5"
_MOST = np.finfo(np.float16).max


def halve(source, target):
    """Writes a network anew with its weights in half precision, which Keras loads like any other.

    Args:
        source: A .keras file.
        target: Where the smaller one goes.

    Raises:
        ValueError: If a weight does not fit into half precision.
    """
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(source) as archive:
        full, half = Path(archive.extract(_WEIGHTS, folder)), Path(folder) / "half.h5"
        with h5py.File(full) as before, h5py.File(half, "w") as after:
            _copy_halved(before, after)
        with zipfile.ZipFile(target, "w") as smaller:
            for member in archive.infolist():
                content = half.read_bytes() if member.filename == _WEIGHTS else archive.read(member)
                # A fixed time: the same weights are the same file.
                smaller.writestr(zipfile.ZipInfo(member.filename), content, zipfile.ZIP_DEFLATED)


def _copy_halved(before, after):
    after.attrs.update(before.attrs)
    for name, item in before.items():
        if isinstance(item, h5py.Group):
            _copy_halved(item, after.create_group(name))
            continue
        value = np.asarray(item)
        if value.dtype == np.float32:
            if not np.abs(value).max(initial=0) < _MOST:
                raise ValueError(f"Expected weights below {_MOST:.0f}. Received: more in {item.name}")
            value = value.astype(np.float16)
        # Bytes of one significance side by side are packed better.
        packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True, "chunks": value.shape}
        after.create_dataset(name, data=value, **(packed if value.ndim else {})).attrs.update(item.attrs)


def take(runs, name, folder):
    """Puts the weights that a benchmark trained, and the records of its trainings, into a folder.

    Args:
        runs: Folder of the runs.
        name: Of the method.
        folder: Where `NAME.keras` and `NAME.json` of the first seed go, and the records of the same training from
            other seeds, `NAME-seed1.json`.

    Raises:
        FileNotFoundError: If there is not one finished training of the first seed.
    """
    runs, folder = Path(runs), Path(folder)
    kept = {
        path.stem.removeprefix("training-"): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((runs / "rows").glob(f"training-{name}-seed*.json"))
    }
    first = [training for training, told in kept.items() if told["key"]["seed"] == 0]
    if len(first) != 1:
        raise FileNotFoundError(f"Expected one training of {name} in {runs}. Received: {len(first)}")
    folder.mkdir(parents=True, exist_ok=True)
    halve(runs / "trainings" / first[0] / "best.keras", folder / f"{name}.keras")
    for training, told in kept.items():
        seed = told["key"]["seed"]
        if told["key"] | {"seed": 0} == kept[first[0]]["key"]:
            record = {
                "key": told["key"],
                "training": told["result"],
                "run": json.loads((runs / "trainings" / training / "run.json").read_text(encoding="utf-8")),
                "log": read_log(runs / "trainings" / training / "log.jsonl"),
            }
            stem = f"{name}-seed{seed}" if seed else name
            write_text(folder / f"{stem}.json", json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    take(*sys.argv[1:])
