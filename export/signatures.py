"""What a server is asked and what it answers: slices as floats, as whole HU, and as the bytes of whole HU."""

import tensorflow as tf


def signatures(denoise, slices=1):
    """The signatures of a served network.

    Args:
        denoise: Function of a float32 tensor `(B, H, W, 1)` in HU that returns the same shape in HU; where `slices` is
            above 1, of `(B, H, W, slices)` and of their distances `(B, slices)` in mm.
        slices: Neighbouring slices that the network sees. Each signature then takes a stack for every item, and
            `distances_mm`.

    Returns:
        Dictionary: name of the signature to a function and the list of its inputs, each a `tf.TensorSpec` with
        the input's name; the function returns a dictionary of named outputs.
    """

    batch = (None, None, None, slices)
    distances = [tf.TensorSpec((None, slices), tf.float32, name="distances_mm")] * (slices > 1)

    def floats(slice_hu, *distances_mm):
        return {"denoised_hu": denoise(slice_hu, *distances_mm)}

    def whole_hu(slice_hu, *distances_mm):
        return {"denoised_hu": rounded(denoise(tf.cast(within_int16(slice_hu), tf.float32), *distances_mm))}

    def raw_bytes(slice_bytes, rows, columns, *distances_mm):
        def one(inputs):
            raw, height, width, *more = inputs
            slice_hu = slice_from_bytes(raw, height, width, slices)[None]
            return bytes_of(rounded(denoise(tf.cast(slice_hu, tf.float32), *(mm[None] for mm in more))))

        # One slice after the other: their sizes may differ, and memory is that of one.
        items = (slice_bytes, rows, columns, *distances_mm)
        return {"denoised_bytes": tf.map_fn(one, items, parallel_iterations=1, fn_output_signature=tf.string)}

    return {
        "serving_default": (floats, [tf.TensorSpec(batch, tf.float32, name="slice_hu"), *distances]),
        # Of 32 bits, so that a server still sees what does not fit 16: of 40000 as an int16 it would make -25536.
        "int16": (whole_hu, [tf.TensorSpec(batch, tf.int32, name="slice_hu"), *distances]),
        "bytes": (
            raw_bytes,
            [
                tf.TensorSpec((None,), tf.string, name="slice_bytes"),
                tf.TensorSpec((None,), tf.int32, name="rows"),
                tf.TensorSpec((None,), tf.int32, name="columns"),
                *distances,
            ],
        ),
    }


def within_int16(slice_hu):
    """Whole HU as they are.

    Args:
        slice_hu: int32 tensor in HU, any shape.

    Returns:
        The same.

    Raises:
        tf.errors.InvalidArgumentError: If a value is beyond int16.

    Example:

    >>> within_int16(tf.constant([-32768, 32767])).numpy().tolist()
    [-32768, 32767]
    """
    lowest, highest = tf.reduce_min(slice_hu), tf.reduce_max(slice_hu)
    fits = tf.logical_and(lowest >= tf.int16.min, highest <= tf.int16.max)
    complaint = [
        "Expected slice_hu from -32768 to 32767 HU. Received:",
        *(lowest, "to", highest, "HU; clip it, or ask serving_default"),
    ]
    with tf.control_dependencies([tf.debugging.Assert(fits, complaint)]):
        return tf.identity(slice_hu)


def rounded(slice_hu):
    """HU as int16: rounded half to even, then clipped to what int16 holds.

    Args:
        slice_hu: Float tensor in HU, any shape.

    Returns:
        int16 tensor in HU.

    Example:

    >>> rounded(tf.constant([-0.5, 0.5, 1.5, 40000.0])).numpy().tolist()
    [0, 0, 2, 32767]
    """
    return tf.cast(tf.clip_by_value(tf.round(slice_hu), tf.int16.min, tf.int16.max), tf.int16)


def slice_from_bytes(slice_bytes, rows, columns, slices=1):
    """A slice or a stack from its raw little-endian int16.

    Args:
        slice_bytes: String scalar of `2 * rows * columns * slices` bytes, the slices of a pixel side by side.
        rows: int32 scalar.
        columns: int32 scalar.
        slices: Slices of a stack, an integer.

    Returns:
        int16 tensor `(rows, columns, slices)` in HU.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are not those of so many values.

    Example:

    >>> slice_from_bytes(b"\\x01\\x00\\xff\\xff", 1, 2).numpy().tolist()
    [[[1], [-1]]]
    """
    received = tf.strings.length(slice_bytes)
    expected = 2 * rows * columns * slices
    of_stack = f" * {slices}" if slices > 1 else ""
    complaint = [
        f"Expected slice_bytes of 2 * rows * columns{of_stack} bytes, raw little-endian int16 HU:",
        *(expected, "bytes for", rows, "rows and", columns, "columns. Received:", received, "bytes"),
    ]
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(received, expected), complaint)]):
        values = tf.io.decode_raw(slice_bytes, tf.int16, little_endian=True)
    return tf.reshape(values, tf.stack([rows, columns, slices]))


def bytes_of(values):
    """The raw little-endian bytes of int16 values: what TensorFlow has no operation for.

    Each value's two bytes come from a table. (`tf.io.serialize_tensor` has them too, behind a header whose
    length and place protobuf does not promise.)

    Args:
        values: int16 tensor of any shape.

    Returns:
        String scalar.

    Example:

    >>> bytes_of(tf.constant([1, -2], tf.int16)).numpy()
    b'\\x01\\x00\\xfe\\xff'
    """
    table = tf.constant([code.to_bytes(2, "little") for code in range(2**16)])
    codes = tf.cast(tf.bitcast(tf.reshape(values, [-1]), tf.uint16), tf.int32)
    return tf.strings.reduce_join(tf.gather(table, codes))
