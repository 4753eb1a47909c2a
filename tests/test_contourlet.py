import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from baselines import contourlet
from tests.reference import slow_contourlet

# Where the bands of each scale begin among the 15, and how many there are: coarse, middle, fine.
SCALES = {"coarse": (1, 2), "middle": (3, 4), "fine": (7, 8)}


def analyse(image):
    """`(H, W)` to `(H, W, 15)` in the image's precision."""
    return ops.convert_to_numpy(contourlet.analysis(ops.convert_to_tensor(image[None, :, :, None])))[0]


def image_of(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def grating(angle_degrees, radians_per_pixel, shape=(121, 131)):
    """Waves whose frequency lies at an angle from the columns' axis towards the rows' axis."""
    rows, columns = np.indices(shape)
    angle = np.deg2rad(angle_degrees)
    return np.cos(radians_per_pixel * (rows * np.sin(angle) + columns * np.cos(angle)))


# The mirrored border of the smallest is wider than the image itself: it is mirrored more than once.
@pytest.mark.parametrize("shape", [(37, 44), (71, 68), (13, 14)])
def test_the_bands_are_those_of_the_definition(shape):
    image = image_of(*shape)
    np.testing.assert_allclose(analyse(image), slow_contourlet.analysis(image), atol=1e-12)


@pytest.mark.parametrize(("dtype", "largest"), [("float64", 1e-12), ("float32", 1e-6)])
def test_the_bands_add_up_to_the_image(dtype, largest):
    image = image_of(127, 93).astype(dtype)
    bands = ops.convert_to_tensor(analyse(image)[None])
    again = ops.convert_to_numpy(ops.sum(bands, axis=-1))[0]
    assert again.dtype == dtype
    assert np.abs(again - image).max() < largest


def test_a_slice_over_all_of_hu_comes_back_to_a_thousandth_of_a_hu():
    slice_hu = np.random.default_rng(1).uniform(-1024, 3071, (128, 96)).astype("float32")
    again_hu = analyse(slice_hu / 400).sum(-1) * 400
    assert np.abs(again_hu - slice_hu).max() < 2e-3  # the nearest float32 to 3071 is up to 1.2e-4 off


def test_every_filter_has_zero_phase_and_a_gain_between_0_and_1():
    impulse = np.zeros((75, 69))
    impulse[37, 34] = 1
    gains = np.fft.fft2(np.fft.ifftshift(analyse(impulse), axes=(0, 1)), axes=(0, 1))
    np.testing.assert_allclose(gains.imag, 0, atol=1e-12)
    assert gains.real.min() > -1e-12
    assert gains.real.max() < 1 + 1e-12
    assert gains[0, 0].real == pytest.approx([1] + [0] * 14, abs=1e-12)


# Shares of the energy of all 15 bands, computed from the closed form of the gains; two equal parts would be 0.5.
@pytest.mark.parametrize(
    ("scale", "band", "angle_degrees", "radians_per_pixel", "share"),
    [
        ("coarse", 0, 0, 0.55, 0.96),
        ("coarse", 1, 90, 0.55, 0.96),
        *[("middle", band, 22.5 + 45 * band, 1.1, 0.93) for band in range(4)],
        *[("fine", band, angle, 2.4, 0.87) for band, angle in ((0, 13.3), (3, 76.7), (4, 103.3), (7, 166.7))],
        *[("fine", band, angle, 2.4, 0.70) for band, angle in ((1, 35.8), (2, 54.2), (5, 125.8), (6, 144.2))],
    ],
)
def test_a_grating_lands_in_the_band_of_its_scale_and_direction(
    scale, band, angle_degrees, radians_per_pixel, share
):
    # Away from the border, which turns the waves back.
    bands = analyse(grating(angle_degrees, radians_per_pixel))[35:-35, 35:-35]
    energy = (bands**2).sum((0, 1))
    assert energy.argmax() == SCALES[scale][0] + band
    assert energy.max() / energy.sum() == pytest.approx(share, abs=0.01)


def test_a_slow_wave_stays_in_the_smooth_rest():
    energy = (analyse(grating(30, 0.05)) ** 2).sum((0, 1))
    assert energy[0] / energy.sum() > 0.99


def test_a_turned_image_has_its_bands_turned_and_exchanged():
    image = image_of(37, 45)
    turned = analyse(np.rot90(image))
    for first, count in SCALES.values():
        for band in range(count):
            # A quarter turn adds 90 degrees, half of the directions there are.
            other = turned[:, :, first + (band + count // 2) % count]
            np.testing.assert_allclose(
                other, np.rot90(analyse(image)[:, :, first + band]), atol=1e-12, err_msg=f"{first}, {band}"
            )


def test_a_coefficient_looks_exactly_as_far_as_is_said():
    image = np.zeros((83, 79))
    image[41, 39] = 1
    rows, columns, _ = np.nonzero(np.abs(analyse(image)) > 1e-15)
    assert (rows.min(), rows.max()) == (41 - contourlet.REACH, 41 + contourlet.REACH)
    assert (columns.min(), columns.max()) == (39 - contourlet.REACH, 39 + contourlet.REACH)


def test_images_of_a_batch_do_not_mix():
    one, other = image_of(23, 27, seed=1), image_of(23, 27, seed=2)
    both = ops.convert_to_numpy(contourlet.analysis(ops.convert_to_tensor(np.stack([one, other])[..., None])))
    np.testing.assert_allclose(both[0], analyse(one), atol=1e-12)
    np.testing.assert_allclose(both[1], analyse(other), atol=1e-12)


def test_each_image_is_confined_to_its_band_by_the_filter_of_the_definition():
    images = np.random.default_rng(3).normal(size=(79, 83, 15))
    expected = sum(slow_contourlet.analysis(images[:, :, band])[:, :, band] for band in range(15))
    confined = ops.convert_to_numpy(contourlet.confine(ops.convert_to_tensor(images[None])))[0, :, :, 0]
    assert confined.shape == (79, 83)
    # At the border the images are mirrored scale by scale, which is not mirroring each once.
    inside = np.s_[contourlet.REACH : -contourlet.REACH]
    np.testing.assert_allclose(confined[inside, inside], expected[inside, inside], atol=1e-12)


def test_confining_is_the_adjoint_of_the_analysis():
    image, images = image_of(79, 83), np.zeros((79, 83, 15))
    images[34:45, 35:47] = np.random.default_rng(4).normal(size=(11, 12, 15))
    confined = ops.convert_to_numpy(contourlet.confine(ops.convert_to_tensor(images[None])))[0, :, :, 0]
    assert (confined * image).sum() == pytest.approx((images * analyse(image)).sum(), rel=1e-9)


def test_a_constant_is_confined_to_the_smooth_rest():
    for band in range(15):
        images = np.zeros((1, 31, 37, 15))
        images[..., band] = 3.0
        confined = ops.convert_to_numpy(contourlet.confine(ops.convert_to_tensor(images)))
        np.testing.assert_allclose(confined, 3.0 if band == 0 else 0.0, atol=1e-12)


def test_it_costs_an_eighth_of_its_filters_one_by_one():
    taps = [filter_.size for filter_ in slow_contourlet.filters()]
    # By hand: reaches 3 + 6 + 12; the same and 12; 3 + 6 + 12; 3 + 9.
    assert taps == [43**2] + 2 * [67**2] + 4 * [43**2] + 8 * [25**2]
    one_by_one = sum(taps) * 512 * 512
    signature = tf.TensorSpec((1, 512, 512, 1), tf.float32)
    operations = tf.function(contourlet.analysis).get_concrete_function(signature).graph.get_operations()
    convolutions = [operation for operation in operations if operation.type == "Conv2D"]
    # One slice: the other images of a batch are its phases.
    counted = sum(np.prod(op.inputs[1].shape[:3]) * np.prod(op.outputs[0].shape) for op in convolutions)
    assert one_by_one / counted == pytest.approx(8.6, abs=0.05)


def test_its_bands_are_those_of_its_filters_one_by_one():
    image = tf.constant(image_of(256, 256)[None, :, :, None].astype("float32"))
    filters = [tf.constant(taps[:, :, None, None], tf.float32) for taps in slow_contourlet.filters()]
    one_by_one = tf.concat([tf.nn.conv2d(image, taps, 1, "SAME") for taps in filters], axis=-1)
    middle = np.s_[:, 34:-34, 34:-34]  # Half the widest filter: their borders are not alike.
    np.testing.assert_allclose(one_by_one[middle], contourlet.analysis(image)[middle], atol=1e-5)


def test_litert_gives_the_same_bands_with_builtin_operations_for_any_size():
    signature = tf.TensorSpec((1, None, None, 1), tf.float32)
    traced = tf.function(contourlet.analysis).get_concrete_function(signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert())
    (entrance,), (exit_,) = interpreter.get_input_details(), interpreter.get_output_details()
    for shape in [(31, 45), (52, 38)]:
        image = image_of(*shape).astype("float32")
        interpreter.resize_tensor_input(entrance["index"], (1, *shape, 1))
        interpreter.allocate_tensors()
        interpreter.set_tensor(entrance["index"], image[None, :, :, None])
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(exit_["index"])[0], analyse(image), atol=1e-5)
    assert max(len(tensor["shape"]) for tensor in interpreter.get_tensor_details()) <= 4


def test_the_gradient_of_the_analysis_is_its_adjoint():
    # 37 x 44: neither side is a multiple of all spacings.
    image, other = (tf.constant(image_of(37, 44, seed)[None, :, :, None]) for seed in (5, 6))
    images = tf.constant(np.random.default_rng(7).normal(size=(1, 37, 44, 15)))
    with tf.GradientTape() as tape:
        tape.watch(image)
        product = tf.reduce_sum(contourlet.analysis(image) * images)
    gradient = tape.gradient(product, image)
    expected = tf.reduce_sum(contourlet.analysis(other) * images)
    assert float(tf.reduce_sum(gradient * other)) == pytest.approx(float(expected), rel=1e-9)
