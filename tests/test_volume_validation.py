import numpy as np
import pytest
from keras import ops

from kpn_tf.training.data import volume_validation
from kpn_tf.training.data.volume_validation import Stack, VolumeValidation


def middle(inputs):
    stack = ops.convert_to_tensor(inputs[0] if isinstance(inputs, list) else inputs)
    half = stack.shape[-1] // 2
    return stack[..., half : half + 1]


def unchanged(inputs, training):
    return middle(inputs)


def blurred(inputs, training):
    return ops.average_pool(middle(inputs), 9, strides=1, padding="same")


@pytest.mark.parametrize("slices", [1, 3])
def test_what_is_unchanged_keeps_all_contrast_and_gains_nothing(slices, monkeypatch):
    monkeypatch.setattr(volume_validation, "SCANS", 3)
    rng = np.random.default_rng(1)
    low_hu = rng.normal(40, 20, (40, 48, slices)).astype("float32")
    stack = Stack(low_hu, np.abs(np.arange(slices) - slices // 2), low_hu[..., slices // 2] + 4)
    validate = VolumeValidation([stack], slices, 0, step_mm=3.0, noise_hu=24.0)
    found = validate(unchanged)
    # 4 HU everywhere in a window of 400 HU: 20 log10(100) dB.
    assert found["validation_psnr_soft"] == pytest.approx(40.0, abs=0.01)
    assert found["validation_contrast"] == pytest.approx(1.0, abs=1e-3)
    assert found["validation_d_prime"] == pytest.approx(0.0, abs=1e-6)
    # A mean over 6.75 mm, mixed with the slice until half of the noise is left, erases lesions of 6 and 9 mm first.
    assert 0.4 < validate(blurred)["validation_contrast"] < 0.95
