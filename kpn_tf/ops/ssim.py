"""The local structural similarity map as a differentiable operation."""

from keras import ops

from kpn_tf.ops.structure_tensor import box_mean


def ssim_map(reference, image, size, data_range=1.0):
    """Structural similarity of every pixel's neighbourhood.

    Args:
        reference: Tensor `(B, H, W, 1)`.
        image: Tensor `(B, H, W, 1)`, same unit.
        size: Odd side of the uniform window in pixels.
        data_range: Range of the values.

    Returns:
        Tensor `(B, H, W, 1)`, at most 1; population covariances, windows cut at the border.

    Source: Wang et al., IEEE Trans. Image Process. 13 (2004), Eq. 13, with `K1 = 0.01`, `K2 = 0.03`.
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    moments = ops.concatenate([reference, image, reference**2, image**2, reference * image], axis=-1)
    mean_r, mean_i, square_r, square_i, product = ops.split(box_mean(moments, size), 5, axis=-1)
    variance_r, variance_i = square_r - mean_r**2, square_i - mean_i**2
    covariance = product - mean_r * mean_i
    similarity = (2 * mean_r * mean_i + c1) * (2 * covariance + c2)
    return similarity / ((mean_r**2 + mean_i**2 + c1) * (variance_r + variance_i + c2))
