"""What a benchmark trains and tests on: folders of normal-dose series, or pairs by the NIH protocol."""

import functools
import hashlib
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kpn_tf.datasets import nih, phantom
from kpn_tf.evaluation import simulated_pairs
from kpn_tf.training.data.folders import DOSE, training_folder, validation_folder
from kpn_tf.training.pairs import MeasuredPairs, SimulatedPairs

# Of the noise that is simulated, in training and test; the seed of a training draws patches and first weights.
NOISE_SEED = 0


TWIN_REMARK = (
    "All of it is one drawn anatomy, in a few small slices, of which training and test show neighbouring cuts. These "
    "numbers show that the command works, and not which method is better for patients."
)


class _TestData:
    """Pairs to test on, read once.

    A subclass says in `_kind` what `test_key` calls its folder, and opens a `PairStream` in `_opened(note)`.

    Args:
        folder: Where they are.
        every: Takes every n-th.
        note: Callback `(line, failure)` for skipped inputs.
    """

    _kind = ""
    remark = ""

    def __init__(self, folder, every, note):
        self._folder, self._every, self._note = folder, every, note
        self.failures = 0

    @functools.cached_property
    def test_key(self):
        """What decides the test slices, for `json.dumps`; no slice is read for it."""
        return {self._kind: folder_sha256(self._folder), "every": self._every}

    @functools.cached_property
    def _stream(self):
        def counted(line, failure):
            self.failures += bool(failure)
            self._note(line, failure)

        return self._opened(counted)

    @property
    def name(self):
        """Names the test data in tables."""
        return self._stream.data_name

    @functools.cached_property
    def test(self):
        """List of `Pair`s, kept: 2 MB for a slice of 512x512. `failures` then counts what could not be read."""
        return _listed(self._stream)


class SimulatedData(_TestData):
    """Normal-dose series whose quarter dose is simulated: as `kpn evaluate INPUT` tests.

    Args:
        test: Folder with the series of the test patients.
        train: That of the training patients; `None` if nothing is trained.
        validation: That of the validation patients, who choose the best weights; `None` if nothing is trained.
        every: Takes every n-th test slice.
        patch: Side of the training patches in pixels.
        note: Callback `(line, failure)` for skipped inputs.
    """

    _kind = "simulated"
    remark = "The low dose is simulated, by the simulation that the networks trained here were trained with."

    def __init__(self, test, train=None, validation=None, *, every=1, patch=64, note):
        super().__init__(test, every, note)
        self._train, self._validation, self._patch = train, validation, patch
        self.trains = train is not None

    @functools.cached_property
    def training_key(self):
        """What decides what is trained on, likewise."""
        if not self.trains:
            return {}
        return {"train": folder_sha256(self._train), "validation": folder_sha256(self._validation)}

    def _opened(self, note):
        return simulated_pairs(self._folder, dose=DOSE, seed=NOISE_SEED, every=self._every, note=note)

    @property
    def name(self):
        """Names the test data in tables."""
        return f"normal-dose series at {super().name}"

    @functools.cached_property
    def validation(self):
        """List of `Pair`s.

        Raises:
            ValueError: If there is none.
        """
        pairs = validation_folder(self._validation, np.random.default_rng(NOISE_SEED), note=self._note)
        if not pairs:
            raise ValueError(
                "Expected a normal-dose series of a validation patient. Received: none; check the folder"
            )
        return pairs

    @functools.cached_property
    def _slices(self):
        rng = np.random.default_rng(NOISE_SEED)
        folder = tempfile.mkdtemp(prefix="kpn-slices-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return training_folder(
            self._train,
            self._patch,
            rng,
            scratch=Path(folder, "store"),
            note=self._note,
            progress=_progress,
        )

    def batches(self, budget, steps, seed):
        """What `kpn_tf.training.train` draws from: the same for every network of one seed."""
        return SimulatedPairs(
            self._slices, batch_size=budget.batch, steps=steps, patch=budget.patch, dose=DOSE, seed=seed
        )


class NihData(_TestData):
    """Pairs by the NIH protocol: the first five patients train, the others test.

    No patient is left to choose among the checkpoints: the one of the lowest training loss is taken.

    Args:
        folder: See `kpn_tf.datasets.nih`.
        every: Takes every n-th pair, of both parts.
        twin: Whether it is the synthetic twin, which every table then says.
        note: Callback `(line, failure)` for skipped inputs.
    """

    _kind = "nih"
    trains = True
    validation = ()

    def __init__(self, folder, *, every=1, twin=False, note):
        super().__init__(folder, every, note)
        self._twin = twin

    @property
    def training_key(self):
        """What decides what is trained on: the same folder."""
        return self.test_key

    def _opened(self, note):
        return nih(self._folder, part="test", every=self._every, note=note)

    @property
    def name(self):
        """Names the test data in tables."""
        return ("digital torso, twin of the " if self._twin else "") + super().name

    @property
    def remark(self):
        """What a reader of the tables must know of the data, or nothing."""
        return TWIN_REMARK if self._twin else ""

    @functools.cached_property
    def _training_pairs(self):
        return _listed(nih(self._folder, part="train", every=self._every, note=self._note))

    def batches(self, budget, steps, seed):
        """What `kpn_tf.training.train` draws from: the same for every network of one seed."""
        return MeasuredPairs(
            self._training_pairs, batch_size=budget.batch, steps=steps, patch=budget.patch, seed=seed
        )


class PhantomData(_TestData):
    """Scans of a phantom by the PHANTOM protocol, to test on; the `patient` of a pair is a tube voltage and current.

    Args:
        folder: See `kpn_tf.datasets.phantom`.
        every: Takes every n-th pair of a scan.
        note: Callback `(line, failure)` for skipped inputs.
    """

    _kind = "phantom"

    def __init__(self, folder, *, every=1, note):
        super().__init__(folder, every, note)

    def _opened(self, note):
        return phantom(self._folder, every=self._every, note=note)


def _listed(stream):
    return list(
        tqdm(
            stream.pairs,
            total=stream.slices,
            desc="reading pairs",
            unit="slice",
            disable=None,
            leave=False,
        )
    )


def _progress(name):
    return lambda slices: tqdm(slices, desc=f"noise for {name}", unit="slice", disable=None, leave=False)


def folder_sha256(folder):
    """Names the content of a folder, wherever it lies: names of its files and every byte in them.

    Args:
        folder: Folder or file.

    Returns:
        Hexadecimal string.
    """
    folder = Path(folder)
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(repr((path.relative_to(folder).as_posix(), content)).encode())
    return digest.hexdigest()
