"""The attempt to compute on a GPU: what came of it, whatever stood in the way."""

from typing import NamedTuple

from kpn_tf.denoiser.artefact import Artefact, fixed_form
from kpn_tf.denoiser.cpu import Cpu
from kpn_tf.denoiser.gpu import Adapter, Gpu, GpuError
from kpn_tf.denoiser.self_test import TOLERANCE_HU, SelfTest, run_self_test


class Trial(NamedTuple):
    """What came of the attempt.

    Args:
        reason: Why the adapter is not used, a short reason, or `None` if it is.
        artefact: The network of fixed size, or `None` if there is none.
        adapter: The `Adapter` that LiteRT chose, or `None`.
        self_test: Its result, or `None` if it did not come to it.
        gpu: The network on the adapter, proven, or `None`; to be closed.
    """

    reason: str | None
    artefact: Artefact | None = None
    adapter: Adapter | None = None
    self_test: SelfTest | None = None
    gpu: Gpu | None = None


def try_gpu(artefact, threads, *, only_if_faster=False):
    """Loads a network on the GPU, and proves it there.

    Args:
        artefact: The network; its form of fixed size is what runs.
        threads: Threads of the CPU, which gives the numbers and the time to compare with.
        only_if_faster: Whether an adapter in software, or one that is slower than the CPU, is turned down.

    Returns:
        A `Trial`.

    Raises:
        ValueError: If LiteRT cannot run the network on the CPU either.
        RuntimeError: Likewise.
    """
    fixed = fixed_form(artefact)
    if fixed is None:
        return Trial(f"it needs a network of fixed size, and {artefact.path.name} takes any")
    try:
        gpu = Gpu(fixed.path, fixed.side, fixed.slices)
    except GpuError as error:
        return Trial(str(error), fixed, error.adapter)
    test = None
    try:
        if only_if_faster and gpu.adapter.software:
            raise GpuError("it is itself a program on the CPU")
        test = run_self_test(gpu.run, Cpu(fixed.path, threads), fixed.side, fixed.slices)
        if not test.passed:
            raise GpuError(
                f"its self-test differs from the CPU by {test.largest_hu:.3g} HU, more than {TOLERANCE_HU} HU"
            )
        gpu.check()
        if only_if_faster and test.gpu_ms >= test.cpu_ms:
            raise GpuError(f"it takes {test.gpu_ms:.0f} ms a tile and the CPU {test.cpu_ms:.0f} ms")
    except GpuError as error:
        gpu.close()
        return Trial(str(error), fixed, gpu.adapter, test)
    except BaseException:
        gpu.close()
        raise
    return Trial(None, fixed, gpu.adapter, test, gpu)
