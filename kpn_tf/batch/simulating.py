"""The job that makes pairs: every CT series under a path becomes the same series at a lower dose."""

from kpn_tf import __version__
from kpn_tf.batch.derivation import derive
from kpn_tf.batch.process import SeriesError
from kpn_tf.dicom import SimulatedBy
from kpn_tf.dose.low_dose import LowDoseError, low_dose, texture_sha256


class Simulating:
    """The `Process` that lowers the dose.

    Args:
        dose: Fraction of the dose of the source, between 0 and 1.
        seed: Of the noise, 0 or more.
    """

    slices_around = 0

    def __init__(self, dose, seed):
        self._dose = dose
        self._seed = seed

    def refusal(self, parts):
        # What is left of the noise after denoising tells nothing of the dose.
        own = parts[0].denoised or parts[0].simulated
        return "made by kpn_tf, no normal-dose scan to simulate from" if own else None

    def outside(self, parts):
        return ()

    def derived_by(self, parts):
        return (SimulatedBy(__version__, self._dose, self._seed, texture_sha256(parts)),)

    def for_series(self, parts, makers):
        try:
            lower = low_dose(parts, dose=self._dose, seed=self._seed)
        except LowDoseError as error:
            raise SeriesError(str(error)) from error

        def simulated(ct, series, slice_file):
            return [lower(ct, series.pixel_spacing_mm, slice_file.sop_instance_uid)]

        return makers, simulated


def simulate(input_path, output, *, dose, seed, names="uid", progress=None):
    """Simulates a lower dose of every CT series under a path.

    Every slice gets the noise that the dose it lacks would have kept away, of the strength and texture that
    the series has itself. The same slice of the same series gets the same noise in every run.

    Args:
        input_path: CT file, or folder that is searched recursively.
        output: Folder for the derived series; made if needed. It may lie inside the input.
        dose: Fraction of the dose of the source, between 0 and 1.
        seed: Of the noise, 0 or more.
        names: What the folders of derived series are named after; see `kpn_tf.batch.derivation.derive`.
        progress: A `Progress`, or `None`.

    Returns:
        A `JobReport`; what can be relied on is told at `kpn_tf.batch.derivation.derive`.

    Raises:
        FileNotFoundError: If the input does not exist.
        NotADirectoryError: If the output exists and is no folder.
        ValueError: If the dose or the seed is out of its range.
    """
    return derive(input_path, output, Simulating(dose, seed), names=names, progress=progress)
