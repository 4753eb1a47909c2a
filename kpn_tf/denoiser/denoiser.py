"""A trained network as a callable: a slice in HU in, the same slice with less noise out."""

import itertools
import os
import threading
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kpn_tf.denoiser import artefact, devices
from kpn_tf.denoiser.cpu import Cpu
from kpn_tf.denoiser.gpu import GpuError
from kpn_tf.denoiser.kernels import Kernels, weakened
from kpn_tf.denoiser.slice_input import as_hu, expect_unmasked, seen
from kpn_tf.denoiser.strength import blended
from kpn_tf.denoiser.tiling import MINIMUM_SIDE, grown, tiles, window_length
from kpn_tf.denoiser.trial import try_gpu
from kpn_tf.hounsfield import AIR_HU
from kpn_tf.neighbours import Neighbour, neighbours_of, stacked
from kpn_tf.trained import DEFAULT_WEIGHTS


class Identity(NamedTuple):
    """Who denoised: enough to find the very same file again, and every other form of its weights."""

    model: str
    version: str
    file_sha256: str
    weights_sha256: str | None
    licence: str


class Denoiser:
    """Removes noise from CT slices with LiteRT; TensorFlow is not needed.

    Slices may have any size. Small ones are grown with their own pixels up to what the network takes; large ones
    are cut into tiles that overlap by what an output pixel can see, so that memory stays bounded and the seams
    are exact.

    A GPU is used only for a network of fixed size, only if all of the network runs on it, and only
    after a self-test in which every value agreed with the CPU's. Otherwise, and from the moment when it
    fails, the CPU computes; `device` and `device_note` tell.

    A network of several `slices` may come with a second one for slices without neighbours: single images, slices
    between gaps, and slices that lie further apart than it was made for. Which of the two a slice gets follows from its
    neighbours alone. `identity` is that of the first, which names the hash of the second.

    Args:
        weights: Name of shipped weights, path of a .tflite that carries its metadata, or what
            `kpn_tf.denoiser.artefact.open_artefact` returned of one.
        device: `"cpu"`; `"gpu"` for the GPU if it passes; `"auto"` for the GPU if it
            passes, is faster and is not itself a program on the CPU.
        threads: Threads to compute with on the CPU; the physical cores, at most four, if `None`.
        strength: Share of the correction that is applied, 0 to 1: `x + strength * (net(x) - x)`.

    Raises:
        FileNotFoundError: If there are no such weights.
        ValueError: If the file is no network of this package, or an argument is out of range.

    Example:

    ```python
    denoise = Denoiser()
    quiet_hu = denoise(slice_hu)  # (H, W) -> (H, W)
    ```
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | artefact.Artefact = DEFAULT_WEIGHTS,
        *,
        device: str = "cpu",
        threads: int | None = None,
        strength: float = 1.0,
    ):
        if device not in devices.DEVICES:
            raise ValueError(f"Expected device to be one of {', '.join(devices.DEVICES)}. Received: {device}")
        if not isinstance(strength, Real) or not 0.0 <= strength <= 1.0:
            raise ValueError(f"Expected strength from 0 to 1. Received: {strength!r}")
        if threads is not None and (not isinstance(threads, Integral) or threads < 1):
            raise ValueError(f"Expected at least one thread. Received: threads={threads!r}")
        opened = weights if isinstance(weights, artefact.Artefact) else artefact.open_artefact(weights)
        self.artefact: artefact.Artefact = opened
        self.strength: float = float(strength)
        self.threads: int = devices.default_threads() if threads is None else int(threads)
        self.device: str = "cpu"
        self.adapter: str | None = None
        self._note: str | None = None
        self._lock: threading.Lock = threading.Lock()
        self._kernels: Kernels | None = None
        try:
            if device != "cpu":
                self._turn_to_gpu(only_if_faster=device == "auto")
            if self.device == "cpu":
                self._network = Cpu(self.artefact.path, self.threads)
                # A network that cannot run is found here, not at the first slice of a night's work.
                air_hu = np.full((MINIMUM_SIDE, MINIMUM_SIDE, self.slices), AIR_HU, np.float32)
                self._whole(air_hu, np.zeros(self.slices, np.float32))
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"Expected a network LiteRT can run. Received: {self.artefact.path} ({error})"
            ) from error
        alone = self.artefact.alone
        more = {"device": self.device, "threads": threads, "strength": strength}
        self._alone: Denoiser | None = alone and Denoiser(alone.path, **more)

    @property
    def device_note(self) -> str | None:
        """One line on what computes and why, or `None` where nothing but the CPU was asked for."""
        if self._alone and self._alone.device != self.device:
            return f"{self._note}; slices without neighbours: {self._alone.device_note}"
        return self._note

    @property
    def identity(self) -> Identity:
        """Model, version, SHA-256 of the file and of the weights in it (`None` if it does not say), and licence."""
        return Identity(*(getattr(self.artefact, name) for name in Identity._fields))

    @property
    def slices(self) -> int:
        """How many neighbouring slices the network sees; the middle one is denoised."""
        return self.artefact.slices

    def __call__(
        self,
        slice_hu: ArrayLike,
        padding: ArrayLike | None = None,
        neighbours: Sequence[Neighbour | None] = (),
    ) -> np.ndarray:
        """Denoises one slice. Calls from several threads wait for each other.

        Args:
            slice_hu: `(H, W)` array in HU, floats or signed integers of 16 bits or more; it is not altered.
            padding: `(H, W)` boolean array, `True` outside the field of view, or `None`. The network sees air
                there, and these pixels come back untouched.
            neighbours: For a network of several `slices`, what lies beside the slice: one `Neighbour` for each other
                slice of the stack in order of position, `None` where there is none; empty for a single slice. See
                `volume` for a whole series.

        Returns:
            New float32 `(H, W)` array in HU.

        Raises:
            ValueError: If the slice is not two-dimensional, is empty, holds NaN or infinity, or cannot be HU: masked,
                of another type, scaled to [0, 1]; if a neighbour is such or has another shape, or there are more or
                fewer of them than the network takes.
        """
        source_hu = as_hu(slice_hu)  # (H, W)
        stack_hu, distances_mm = self._stack(source_hu, padding, neighbours)
        if self._alone and self._is_alone(distances_mm):
            return self._alone(source_hu, padding)
        if self.strength == 0.0:
            return source_hu
        with self._lock:
            try:
                denoised_hu = self._whole(stack_hu, distances_mm)
            except GpuError as error:
                self._leave_gpu(error)
                denoised_hu = self._whole(stack_hu, distances_mm)
        denoised_hu = blended(stack_hu[..., self.slices // 2], denoised_hu, self.strength)
        if padding is not None:
            padding = np.asarray(padding, bool)
            denoised_hu[padding] = source_hu[padding]
        return denoised_hu

    def volume(
        self,
        volume_hu: ArrayLike,
        *,
        slice_spacing_mm: float,
        padding: ArrayLike | None = None,
        progress: Any = iter,
    ) -> np.ndarray:
        """Denoises a series slice by slice, each with its neighbours if the network sees them.

        Beyond the two volumes it holds one stack at a time.

        Args:
            volume_hu: `(Z, H, W)` array in HU, sorted by position; it is not altered.
            slice_spacing_mm: Distance from one slice to the next.
            padding: `(Z, H, W)` boolean array, `True` outside the field of view, or `None`.
            progress: Wraps the iteration over the slices, such as `tqdm`.

        Returns:
            New float32 `(Z, H, W)` array in HU.

        Raises:
            ValueError: As of a call for one slice; if the volume is masked, not three-dimensional or empty, the padding
                of another shape, or the spacing not above 0.
        """
        expect_unmasked(volume_hu)
        volume_hu = np.asarray(volume_hu)
        if volume_hu.ndim != 3 or volume_hu.size == 0:
            raise ValueError(f"Expected a volume of shape (Z, H, W). Received: shape {volume_hu.shape}")
        if not 0 < slice_spacing_mm < np.inf:
            raise ValueError(f"Expected a slice_spacing_mm above 0. Received: {slice_spacing_mm}")
        if padding is not None and np.shape(padding) != volume_hu.shape:
            raise ValueError(
                f"Expected padding of the volume's shape {volume_hu.shape}. Received: {np.shape(padding)}"
            )
        positions_mm = np.arange(len(volume_hu)) * float(slice_spacing_mm)
        outside = [None] * len(volume_hu) if padding is None else np.asarray(padding, bool)
        denoised_hu = np.empty(volume_hu.shape, np.float32)
        for index in progress(range(len(volume_hu))):
            places = neighbours_of(index, positions_mm, self.slices)
            beside = [
                place and Neighbour(volume_hu[place[0]], place[1], outside[place[0]]) for place in places
            ]
            denoised_hu[index] = self(volume_hu[index], outside[index], beside)
        return denoised_hu

    def kernels_at(
        self,
        slice_hu: ArrayLike,
        rows: ArrayLike,
        columns: ArrayLike,
        *,
        padding: ArrayLike | None = None,
        neighbours: Sequence[Neighbour | None] = (),
    ) -> np.ndarray:
        """The kernels that a call applies at chosen pixels, to slices within `kpn_tf.hounsfield.SEEN`.

        They are computed on the CPU, whatever `device` is. What of a pixel lies beyond `SEEN` is added to what its
        kernel makes.

        Args:
            slice_hu: `(H, W)` in HU, as in a call.
            rows: Rows of the pixels, a sequence of N integers in `[0, H)`.
            columns: Columns of the pixels, likewise in `[0, W)`.
            padding: As in a call.
            neighbours: As in a call.

        Returns:
            NumPy array `(N, k, k)`, or `(N, S, k, k)` of a network of several `slices`; tap `(i, j)` weighs the pixel
            at row offset `i - k // 2` and column offset `j - k // 2`. The taps for a pixel sum to one; where the
            network for slices without neighbours computes, those of the neighbours are zero.

        Raises:
            kpn_tf.denoiser.NoKernelsError: If the file does not tell its kernels; a `ValueError`.
            ValueError: As of a call; if a pixel lies outside the slice.
        """
        stack_hu, distances_mm = self._stack(as_hu(slice_hu), padding, neighbours)
        if self._alone and self._is_alone(distances_mm):
            middle = self._alone.kernels_at(slice_hu, rows, columns, padding=padding)
            kernels = np.zeros((len(middle), self.slices, *middle.shape[1:]), np.float32)
            kernels[:, self.slices // 2] = middle
            return kernels
        rows, columns = np.atleast_1d(rows), np.atleast_1d(columns)
        if np.any((rows < 0) | (rows >= stack_hu.shape[0]) | (columns < 0) | (columns >= stack_hu.shape[1])):
            raise ValueError(
                f"Expected pixels inside a slice of shape {stack_hu.shape[:2]}. Received: one outside"
            )
        seen_hu = self._grown(stack_hu)
        kernels = None
        with self._lock:
            if self._kernels is None:
                self._kernels = Kernels(self.artefact.path, self.threads)
            for row, column in itertools.product(*map(self._tiles, seen_hu.shape[:2])):
                chosen = (rows >= row.keep_start) & (rows < row.keep_stop)
                chosen &= (columns >= column.keep_start) & (columns < column.keep_stop)
                if not chosen.any():
                    continue
                tile_hu = np.ascontiguousarray(seen_hu[row.start : row.stop, column.start : column.stop])
                found = self._kernels.at(
                    tile_hu, distances_mm, rows[chosen] - row.start, columns[chosen] - column.start
                )
                kernels = np.empty((len(rows), *found.shape[1:]), np.float32) if kernels is None else kernels
                kernels[chosen] = found
        kernels = weakened(kernels, self.strength)
        return kernels if self.slices > 1 else kernels[:, 0]

    def _turn_to_gpu(self, only_if_faster):
        trial = try_gpu(self.artefact, self.threads, only_if_faster=only_if_faster)
        self.adapter = trial.adapter.name if trial.adapter else None
        if trial.gpu is None:
            name = f"the GPU, {self.adapter}," if self.adapter else "the GPU"
            self._note = f"computing on the CPU; {name} is not used: {trial.reason}"
            return
        self.artefact, self._network, self.device = trial.artefact, trial.gpu, "gpu"
        largest_hu = trial.self_test.largest_hu
        self._note = f"computing on the GPU, {self.adapter}, within {largest_hu:.1g} HU of the CPU"

    def _leave_gpu(self, error):
        # The same file, so the identity stays true; what has failed once is not asked again.
        self._network, self.device = Cpu(self.artefact.path, self.threads), "cpu"
        self._note = f"continued on the CPU; the GPU, {self.adapter}, failed: {error}"

    def _stack(self, source_hu, padding, neighbours):
        """A slice and its neighbours as the network sees them, and their distances."""
        seen_hu = seen(source_hu, padding)
        beside = [one and one._replace(slice_hu=seen(as_hu(one.slice_hu), one.padding)) for one in neighbours]
        return stacked(seen_hu, beside, self.slices)

    def used_with(self, neighbours: Sequence[Neighbour | None]) -> "Denoiser":
        """Who denoises a slice with these neighbours: this denoiser, or the one for slices without any.

        Args:
            neighbours: As in a call.

        Returns:
            A `Denoiser`.
        """
        distances_mm = np.array([one.distance_mm if one else 0 for one in neighbours])
        return self._alone if self._alone and self._is_alone(distances_mm) else self

    def _is_alone(self, distances_mm):
        """Whether no neighbour is near enough; a distance of 0 is that of a slice that is not there."""
        return not np.any((distances_mm > 0) & (distances_mm <= self.artefact.alone_beyond_mm))

    def _grown(self, stack_hu):
        network = self.artefact
        slices_hu = np.moveaxis(stack_hu, -1, 0)
        grown_hu = [grown(one_hu, multiple=network.multiple, side=network.side) for one_hu in slices_hu]
        return np.stack(grown_hu, axis=-1)

    def _whole(self, stack_hu, distances_mm):
        seen_hu = self._grown(stack_hu)
        rows, columns = (self._tiles(length) for length in seen_hu.shape[:2])
        denoised_hu = np.empty(seen_hu.shape[:2], np.float32)
        for row, column in itertools.product(rows, columns):
            tile_hu = self._infer(seen_hu[row.start : row.stop, column.start : column.stop], distances_mm)
            denoised_hu[row.keep_start : row.keep_stop, column.keep_start : column.keep_stop] = tile_hu[
                row.keep_start - row.start : row.keep_stop - row.start,
                column.keep_start - column.start : column.keep_stop - column.start,
            ]
        return denoised_hu[: stack_hu.shape[0], : stack_hu.shape[1]]

    def _tiles(self, length):
        grid = {"halo": self.artefact.halo, "multiple": self.artefact.multiple}
        window = self.artefact.side or window_length(length, limit=self.artefact.whole_side, **grid)
        return tiles(length, window=window, **grid)

    def _infer(self, tile_hu, distances_mm):
        batch_hu = np.ascontiguousarray(tile_hu[None])  # (1, H, W, S)
        more = (distances_mm[None],) if self.slices > 1 else ()
        denoised_hu = self._network(batch_hu, *more)
        expected = (*batch_hu.shape[:3], 1)
        if denoised_hu.shape != expected or not np.isfinite(denoised_hu).all():
            raise ValueError(
                f"Expected {self.artefact.path.name} to return finite HU of shape {expected}. "
                f"Received: shape {denoised_hu.shape}, "
                f"{np.count_nonzero(~np.isfinite(denoised_hu))} pixels not finite"
            )
        return denoised_hu[0, :, :, 0]
