"""The main job: every CT series under a path becomes a denoised series of its own."""

from kpn_tf import __version__
from kpn_tf.batch.derivation import derive
from kpn_tf.dicom import DerivedBy
from kpn_tf.neighbours import Neighbour


class Denoising:
    """The `Process` that removes noise.

    Args:
        denoiser: A `Denoiser`.
    """

    def __init__(self, denoiser):
        self._denoiser = denoiser

    def refusal(self, parts):
        return "made by kpn_tf, never denoised twice" if parts[0].denoised else None

    def outside(self, parts):
        return tuple(dict.fromkeys(reason for part in parts for reason in part.outside))

    def derived_by(self, parts):
        identity = self._denoiser.identity
        return DerivedBy(
            identity.model,
            __version__,
            identity.weights_sha256,
            self._denoiser.strength,
            self._denoiser.device,
            identity.file_sha256,
        )

    @property
    def slices_around(self):
        return getattr(self._denoiser, "slices", 1) // 2

    def for_series(self, parts):
        if not self.slices_around:
            return lambda ct, series, slice_file: self._denoiser(ct.slice_hu, ct.padding)
        indices = {(file.path, file.frame): index for part in parts for index, file in enumerate(part.slices)}

        def denoise(ct, series, slice_file, around):
            index = indices[slice_file.path, slice_file.frame]
            beside = [
                Neighbour(around[place[0] - index].slice_hu, place[1], around[place[0] - index].padding)
                if place and place[0] - index in around
                else None
                for place in series.neighbours(index, self._denoiser.slices)
            ]
            return self._denoiser(ct.slice_hu, ct.padding, beside)

        return denoise


def denoise(input_path, output, denoiser, *, progress=None):
    """Denoises every CT series under a path.

    Args:
        input_path: CT file, or folder that is searched recursively.
        output: Folder for the derived series; made if needed. It may lie inside the input.
        denoiser: A `Denoiser`.
        progress: A `Progress`, or `None`.

    Returns:
        A `JobReport`; what can be relied on is told at `kpn_tf.batch.derivation.derive`.

    Raises:
        FileNotFoundError: If the input does not exist.
        NotADirectoryError: If the output exists and is no folder.
    """
    return derive(input_path, output, Denoising(denoiser), progress=progress)
