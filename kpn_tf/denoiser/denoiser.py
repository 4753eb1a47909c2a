"""A trained network as a callable: a slice in HU in, the same slice with less noise out."""

import itertools
import threading
from typing import NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kpn_tf.denoiser import artefact, devices
from kpn_tf.denoiser.tiling import tiles
from kpn_tf.hounsfield import AIR_HU

# Longest side that goes through the network in one piece: what the activations cost grows with the area.
WHOLE_SIDE = 768


class Identity(NamedTuple):
    """Who denoised: enough to find the very same weights again."""

    model: str
    version: str
    sha256: str
    licence: str


class Denoiser:
    """Removes noise from CT slices with LiteRT on the CPU; TensorFlow is not needed.

    Slices may have any size. Small ones are padded with their own edge up to the smallest the network takes;
    large ones are cut into tiles that overlap by what an output pixel can see, so that memory stays bounded
    and the seams are exact.

    Args:
        weights: Name of a shipped network, or path of a .tflite that carries its metadata.
        threads: Threads to compute with; the physical cores, at most four, if `None`.
        strength: Share of the correction that is applied, 0 to 1: `x + strength * (net(x) - x)`.

    Raises:
        FileNotFoundError: If there is no such network.
        ValueError: If the file is no network of this package, or an argument is out of range.

    Example:

    ```python
    denoise = Denoiser("edge")
    quiet_hu = denoise(slice_hu)  # (H, W) -> (H, W)
    ```
    """

    def __init__(self, weights="edge", *, threads=None, strength=1.0):
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"Expected strength from 0 to 1. Received: {strength}")
        if threads is not None and threads < 1:
            raise ValueError(f"Expected at least one thread. Received: threads={threads}")
        self.artefact = artefact.open_artefact(weights)
        self.strength = float(strength)
        self.threads = devices.default_threads() if threads is None else int(threads)
        self._lock = threading.Lock()
        self._shape = None
        try:
            self._interpreter = Interpreter(model_path=str(self.artefact.path), num_threads=self.threads)
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._output = self._interpreter.get_output_details()[0]["index"]
            # A network that cannot run is found here, not at the first slice of a night's work.
            self._infer(np.full((artefact.MINIMUM_SIDE,) * 2, AIR_HU, np.float32))
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"Expected a network LiteRT can run. Received: {self.artefact.path} ({error})"
            ) from error

    @property
    def identity(self):
        """Model, version, sha256 of the weights' file, and licence."""
        return Identity(
            self.artefact.model, self.artefact.version, self.artefact.sha256, self.artefact.licence
        )

    def __call__(self, slice_hu, padding=None):
        """Denoises one slice. Calls from several threads wait for each other.

        Args:
            slice_hu: `(H, W)` array in HU; it is not altered.
            padding: `(H, W)` boolean array, `True` outside the field of view, or `None`. The network sees air
                there, and these pixels come back untouched.

        Returns:
            New float32 `(H, W)` array in HU.

        Raises:
            ValueError: If the slice is not two-dimensional, is empty, or holds NaN or infinity.
        """
        source_hu = np.array(slice_hu, np.float32)  # (H, W)
        if source_hu.ndim != 2 or source_hu.size == 0:
            raise ValueError(f"Expected a slice of shape (H, W). Received: shape {source_hu.shape}")
        seen_hu = source_hu
        if padding is not None:
            padding = np.asarray(padding, bool)
            if padding.shape != source_hu.shape:
                raise ValueError(
                    f"Expected padding of the slice's shape {source_hu.shape}. Received: {padding.shape}"
                )
            seen_hu = np.where(padding, np.float32(AIR_HU), source_hu)
        if not np.isfinite(seen_hu).all():
            count = int(np.count_nonzero(~np.isfinite(seen_hu)))
            raise ValueError(
                f"Expected finite HU. Received: {count} pixels that are NaN or infinite; "
                "mark them in `padding` if they lie outside the field of view"
            )
        if self.strength == 0.0:
            return source_hu
        with self._lock:
            denoised_hu = self._tiled(seen_hu)
        if self.strength < 1.0:
            denoised_hu -= seen_hu
            denoised_hu *= np.float32(self.strength)
            denoised_hu += seen_hu
        if padding is not None:
            denoised_hu[padding] = source_hu[padding]
        return denoised_hu

    def _tiled(self, slice_hu):
        rows, columns = (
            tiles(side, limit=WHOLE_SIDE, halo=self.artefact.halo, multiple=self.artefact.multiple)
            for side in slice_hu.shape
        )
        if len(rows) == len(columns) == 1:
            return self._infer(slice_hu)
        denoised_hu = np.empty_like(slice_hu)
        # Equal shapes one after the other: a change of shape makes the interpreter plan its memory anew.
        for row, column in sorted(itertools.product(rows, columns), key=_shape):
            tile_hu = self._infer(slice_hu[row.start : row.stop, column.start : column.stop])
            denoised_hu[row.keep_start : row.keep_stop, column.keep_start : column.keep_stop] = tile_hu[
                row.keep_start - row.start : row.keep_stop - row.start,
                column.keep_start - column.start : column.keep_stop - column.start,
            ]
        return denoised_hu

    def _infer(self, slice_hu):
        rows, columns = slice_hu.shape
        short = [max(0, artefact.MINIMUM_SIDE - side) for side in slice_hu.shape]
        if any(short):
            slice_hu = np.pad(slice_hu, [(0, pixels) for pixels in short], mode="edge")
        # Mirrored up to whole groups of the network's inner resolution, as the network does in Keras.
        spare = [-side % self.artefact.multiple for side in slice_hu.shape]
        if any(spare):
            slice_hu = np.pad(slice_hu, [(0, pixels) for pixels in spare], mode="reflect")
        batch_hu = np.ascontiguousarray(slice_hu[None, :, :, None])  # (1, H, W, 1)
        if batch_hu.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, batch_hu.shape, strict=True)
            self._interpreter.allocate_tensors()
            self._shape = batch_hu.shape
        self._interpreter.set_tensor(self._input, batch_hu)
        self._interpreter.invoke()
        denoised_hu = self._interpreter.get_tensor(self._output)
        if denoised_hu.shape != batch_hu.shape or not np.isfinite(denoised_hu).all():
            raise ValueError(
                f"Expected {self.artefact.path.name} to return finite HU of shape {batch_hu.shape}. "
                f"Received: shape {denoised_hu.shape}, "
                f"{np.count_nonzero(~np.isfinite(denoised_hu))} pixels not finite"
            )
        return denoised_hu[0, :rows, :columns, 0]


def _shape(pair):
    row, column = pair
    return row.stop - row.start, column.stop - column.start
