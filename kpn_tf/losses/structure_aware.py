"""The structure-aware loss: edges, fine structure and flat regions are judged differently."""

import keras
from keras import ops

from kpn_tf.hounsfield import UNIT_HU, WINDOWS
from kpn_tf.metrics.structure import NEIGHBOURHOOD, SIGMA_L1, SIGMA_L2
from kpn_tf.ops.ssim import ssim_map
from kpn_tf.ops.structure_tensor import strength_and_coherence


def soft_tissue_unit(slice_hu):
    """HU to the unit scale of the soft-tissue window: -160 HU is 0, 240 HU is 1, clipped outside.

    Args:
        slice_hu: Tensor of any shape in HU.

    Returns:
        Tensor of the same shape in [0, 1].
    """
    window = WINDOWS["soft"]
    return ops.clip((slice_hu - window.low_hu) / window.width_hu, 0.0, 1.0)


@keras.saving.register_keras_serializable("kpn_tf")
class StructureAwareLoss(keras.losses.Loss):
    """Per pixel `(g1 L2 + g2 L1 - g3 SSIM) / 2 + L1 / 2` with weights from the normal-dose slice.

    `[g1, g2, g3] = softmax([coherence * 1.8, 0.35, strength])`: squared error on edges, absolute error on
    flat regions, structural similarity on strong structure. The weights carry no gradient.

    All but the last term see the soft-tissue window, where the paper's constants have their meaning. **Added
    to the paper's loss:** the last L1 is taken over all of HU (unit 400 HU, the same scale inside the
    window), so that lung and bone, which the window clips, are kept right as well.

    Args:
        size: Odd side of the neighbourhood of structure and similarity in pixels.
        strength: `"literal"` (larger eigenvalue, Eq. 2 as written) or `"sqrt"` (its root).
        reduction: As in every Keras loss.
        name: As in every Keras loss.

    Raises:
        ValueError: On the first call, if `strength` is neither.

    Example:

    >>> import numpy as np
    >>> slice_hu = np.zeros((1, 16, 16, 1), "float32")
    >>> round(float(StructureAwareLoss()(slice_hu, slice_hu)), 3)  # only -SSIM/2, a third of the weight, is left
    -0.146

    Source: Xu et al., ICIP 2021, Eq. 2 to 6.
    """

    def __init__(
        self,
        size=NEIGHBOURHOOD,
        strength="literal",
        reduction="sum_over_batch_size",
        name="structure_aware",
    ):
        super().__init__(reduction=reduction, name=name)
        self.size = size
        self.strength = strength

    def weights(self, normal_hu):
        """The three weights of every pixel, for the loss and for pictures of it.

        Args:
            normal_hu: Normal-dose slices `(B, H, W, 1)` in HU.

        Returns:
            Tensor `(B, H, W, 3)`: shares of L2, L1 and SSIM; they sum to one.
        """
        strength, coherence = strength_and_coherence(soft_tissue_unit(normal_hu), self.size, self.strength)
        scores = ops.concatenate(
            [coherence * SIGMA_L2, ops.full_like(coherence, SIGMA_L1), strength], axis=-1
        )
        return ops.stop_gradient(ops.softmax(scores, axis=-1))

    def call(self, y_true, y_pred):
        """Loss of every pixel.

        Args:
            y_true: Normal-dose slices `(B, H, W, 1)` in HU.
            y_pred: Denoised slices `(B, H, W, 1)` in HU.

        Returns:
            Tensor `(B, H, W)`, no unit.
        """
        share_l2, share_l1, share_ssim = ops.split(self.weights(y_true), 3, axis=-1)
        normal, denoised = soft_tissue_unit(y_true), soft_tissue_unit(y_pred)
        error = denoised - normal
        similarity = ssim_map(normal, denoised, self.size)
        structural = share_l2 * error**2 + share_l1 * ops.abs(error) - share_ssim * similarity
        absolute = ops.abs(y_pred - y_true) / UNIT_HU
        return ops.squeeze((structural + absolute) / 2, axis=-1)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "strength": self.strength}
