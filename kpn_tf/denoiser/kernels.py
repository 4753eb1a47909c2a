"""What kernels a network applies, from its artefact: the shares of its learnt filters at every pixel."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kpn_tf.kernels import kernels_of_filters, mixed

SIGNATURE = "shares"


class NoKernelsError(ValueError):
    """An artefact that does not tell its kernels; one sentence that says so."""


class Kernels:
    """The kernels of a network whose artefact has the signature `shares`, on the CPU.

    Args:
        path: The .tflite.
        threads: Threads to compute with.

    Raises:
        NoKernelsError: If the artefact has no such signature: it is older, in integers, or its kernels are no mixtures
            of learnt filters.
    """

    def __init__(self, path, threads):
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        if SIGNATURE not in interpreter.get_signature_list():
            raise NoKernelsError(
                f"Expected a network whose file tells the shares of its filters. Received: {path.name}, which does "
                "not; export it again (in float16 or float32, if its kernels are mixtures of learnt filters)"
            )
        self._run = interpreter.get_signature_runner(SIGNATURE)
        self._banks = None

    @property
    def banks(self):
        """Of every slice all filters as kernels of every phase, `(4, k, k, C)`, once shares were asked for."""
        return self._banks

    def shares(self, stack_hu, distances_mm):
        """How much of each filter every pixel takes.

        Args:
            stack_hu: `(H, W, S)` float32 in HU, of sides that the network takes.
            distances_mm: `(S,)` float32; not looked at if `S` is 1.

        Returns:
            `(H/2, W/2, 4, C)` float32: phases of `(H, W, C)`, row phase slowest; of sum one at every pixel.
        """
        told = {"slice_hu": stack_hu[None]}
        if stack_hu.shape[2] > 1:
            told["distances_mm"] = distances_mm[None]
        found = self._run(**told)
        if self._banks is None:
            self._banks = [
                kernels_of_filters(found[f"filters_{z}"], found.get(f"wide_{z}"))
                for z in range(stack_hu.shape[2])
            ]
        shares = found["shares"][0]
        return shares.reshape(*shares.shape[:2], 4, -1)

    def at(self, stack_hu, distances_mm, rows, columns):
        """The kernels at chosen pixels.

        Args:
            stack_hu: As of `shares`.
            distances_mm: Likewise.
            rows: Rows of the pixels, an array of N integers.
            columns: Columns of the pixels, likewise.

        Returns:
            `(N, S, k, k)` float32.
        """
        phases = rows % 2 * 2 + columns % 2
        shares = self.shares(stack_hu, distances_mm)[rows // 2, columns // 2, phases]
        return mixed(shares, self.banks, phases)


def weakened(kernels, strength):
    """Kernels of `x + strength * (net(x) - x)` out of those of `net`; they keep their sum of one.

    Args:
        kernels: `(N, S, k, k)`.
        strength: From 0 to 1.

    Returns:
        The same shape.
    """
    middle, radius = kernels.shape[1] // 2, kernels.shape[2] // 2
    weakened = np.float32(strength) * kernels
    weakened[:, middle, radius, radius] += np.float32(1 - strength)
    return weakened
