"""Where a slice has edges, fine structure or nothing: eigenvalues of the local structure tensor."""

from keras import ops

# Readings of the word in Eq. 2: the larger eigenvalue as written, and its root, the larger singular value.
STRENGTHS = ("literal", "sqrt")


def box_mean(image, size):
    """Mean over the `size * size` neighbourhood of every pixel; at the border over the part inside.

    Args:
        image: Tensor `(B, H, W, C)`.
        size: Odd side of the neighbourhood in pixels.

    Returns:
        Tensor `(B, H, W, C)`.
    """
    # Rows, then columns: 2 * size reads a pixel instead of size * size, also in the gradient.
    for window in ((size, 1), (1, size)):
        image = ops.average_pool(image, window, strides=1, padding="same", data_format="channels_last")
    return image


def structure_tensor_eigenvalues(image, size):
    """Eigenvalues of the gradient products summed over a neighbourhood.

    `G` holds one row `(d/dx, d/dy)` per pixel of the neighbourhood (central differences, border
    mirrored); the eigenvalues of `G^T G` are the squared singular values of `G`. A symmetric 2×2 matrix
    `[[a, b], [b, c]]` has them in closed form, `(a + c)/2 ± sqrt(((a - c)/2)^2 + b^2)`. At the border of
    the slice the sum is scaled up to a full neighbourhood.

    Args:
        image: Tensor `(B, H, W, 1)`.
        size: Odd side of the neighbourhood in pixels (11 in the paper).

    Returns:
        Two tensors `(B, H, W, 1)`, the larger and the smaller eigenvalue, in the unit of `image` squared.

    Source: Xu et al., ICIP 2021, Eq. 2 and 3.
    """
    padded = ops.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
    d_row = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    d_column = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    products = ops.concatenate([d_column * d_column, d_column * d_row, d_row * d_row], axis=-1)
    a, b, c = ops.split(box_mean(products, size) * (size * size), 3, axis=-1)
    middle = (a + c) / 2
    spread = ops.sqrt(((a - c) / 2) ** 2 + b**2)
    return middle + spread, ops.maximum(middle - spread, 0.0)


def strength_and_coherence(image, size, strength="literal"):
    """How strong the structure around a pixel is, and how much of it runs in one direction.

    Args:
        image: Tensor `(B, H, W, 1)`, display-window units in [0, 1].
        size: Odd side of the neighbourhood in pixels.
        strength: `"literal"` for the larger eigenvalue as Eq. 2 is written, `"sqrt"` for its root (the
            larger singular value).

    Returns:
        Strength and coherence, tensors `(B, H, W, 1)`. Coherence is
        `(sqrt(l1) - sqrt(l2)) / (sqrt(l1) + sqrt(l2))`, between 0 and 1, and 0 where nothing varies.

    Raises:
        ValueError: If `strength` is neither.

    Source: Xu et al., ICIP 2021, Eq. 2 and 3; the literal reading is the one that gives three kinds of
        region on real slices.
    """
    if strength not in STRENGTHS:
        raise ValueError(f"Expected strength to be one of {STRENGTHS}. Received: {strength!r}")
    larger, smaller = structure_tensor_eigenvalues(image, size)
    s1, s2 = ops.sqrt(larger), ops.sqrt(smaller)
    coherence = (s1 - s2) / ops.maximum(s1 + s2, 1e-12)
    return (larger if strength == "literal" else s1), coherence
