import keras
import numpy as np
import pytest
from keras import ops

from kpn_tf import StructKPN, StructureAwareLoss, metrics
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.losses import PSNR, SSIM
from kpn_tf.phantom import torso


def slices(seed, scale=60.0):
    return np.random.default_rng(seed).normal(40, scale, (2, 23, 17, 1)).astype("float32")


def test_the_three_weights_are_shares_of_every_pixel():
    weights = ops.convert_to_numpy(StructureAwareLoss().weights(slices(1)))
    assert weights.shape == (2, 23, 17, 3)
    assert weights.min() > 0
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_flat_tissue_weighs_absolute_error_an_edge_squared_error_and_strong_structure_similarity():
    image = np.zeros((1, 41, 81, 1), "float32")
    image[:, :, 20:] = 60.0  # 0.15 of the window: an edge of little strength
    image[:, :, 60:] = np.where(np.indices((41, 21)).sum(0) % 4 < 2, 200.0, -100.0)[None, :, :, None]
    weights = ops.convert_to_numpy(StructureAwareLoss().weights(image))[0]
    assert weights[20, 5].argmax() == 1
    assert weights[20, 20].argmax() == 0
    assert weights[20, 70].argmax() == 2


def test_the_loss_is_the_formula_of_the_paper_plus_absolute_error_over_all_of_hu():
    loss = StructureAwareLoss()
    # Constant slices inside the window: coherence and strength 0, weights softmax([0, 0.35, 0]).
    normal = np.full((1, 15, 15, 1), 40.0, "float32")
    denoised = np.full((1, 15, 15, 1), 80.0, "float32")
    other = 1 / (2 + np.exp(0.35))
    l1_share = np.exp(0.35) * other
    x, y, error = 0.5, 0.6, 0.1
    similarity = (2 * x * y + 1e-4) / (x**2 + y**2 + 1e-4)
    expected = 0.5 * (other * error**2 + l1_share * error - other * similarity) + 0.5 * error
    assert float(loss(normal, denoised)) == pytest.approx(expected, abs=3e-4)


def test_lung_and_bone_outside_the_window_still_count():
    loss = StructureAwareLoss()
    for hu in (-800.0, 1200.0):
        normal = np.full((1, 15, 15, 1), hu, "float32")
        assert float(loss(normal, normal + 20)) - float(loss(normal, normal)) == pytest.approx(
            0.5 * 20 / 400, abs=1e-5
        )


def test_the_per_pixel_loss_has_the_shape_of_the_slice():
    loss = StructureAwareLoss(reduction=None)
    assert ops.shape(loss(slices(2), slices(3))) == (2, 23, 17)


def test_the_weights_come_from_the_normal_dose_slice_alone():
    loss = StructureAwareLoss()
    normal = slices(4)
    before = ops.convert_to_numpy(loss.weights(normal))
    loss(normal, slices(5))
    np.testing.assert_array_equal(before, ops.convert_to_numpy(loss.weights(normal)))


def test_the_loss_survives_serialisation():
    loss = StructureAwareLoss(size=9, strength="sqrt")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert (again.size, again.strength) == (9, "sqrt")
    assert float(again(slices(6), slices(7))) == pytest.approx(float(loss(slices(6), slices(7))))


# Every pixel of a constant slice has the weights softmax([0, 0.35, 0]); the published loss stays in the window.
def test_the_published_loss_is_that_of_the_equations_with_no_term_outside_the_window():
    normal, denoised = np.full((1, 15, 15, 1), 40.0, "float32"), np.full((1, 15, 15, 1), 80.0, "float32")
    shares = np.exp([0, 0.35, 0]) / np.exp([0, 0.35, 0]).sum()
    x, y, error = 0.5, 0.6, 0.1
    similarity = (2 * x * y + 1e-4) / (x**2 + y**2 + 1e-4)
    structural = shares @ [error**2, error, -similarity]
    alone, published = StructureAwareLoss(absolute=None), StructureAwareLoss(absolute="window")
    assert float(alone(normal, denoised)) == pytest.approx(structural, abs=3e-4)
    assert float(published(normal, denoised)) == pytest.approx((structural + error) / 2, abs=3e-4)
    for loss in (alone, published):
        bone = np.full((1, 15, 15, 1), 1000.0, "float32")
        assert float(loss(bone, bone + 500)) == float(loss(bone, bone))


def test_a_term_alone_is_that_term():
    normal, denoised = slices(8), slices(9)
    low, width = -160, 400
    error = (np.clip((denoised - low) / width, 0, 1) - np.clip((normal - low) / width, 0, 1)).astype(
        "float64"
    )
    alone = {
        term: float(StructureAwareLoss(absolute=None, terms=[term])(normal, denoised))
        for term in ("l2", "l1", "ssim")
    }
    assert alone["l2"] == pytest.approx((error**2).mean(), rel=1e-4)
    assert alone["l1"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
    assert -1 < alone["ssim"] < 1
    assert float(StructureAwareLoss(absolute=None, terms=["ssim"])(normal, normal)) == pytest.approx(
        -1, abs=1e-4
    )
    weights = ops.convert_to_numpy(StructureAwareLoss(terms=["l2", "ssim"]).weights(normal))
    np.testing.assert_array_equal(weights[..., 1], 0)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_the_constants_move_the_weights_and_another_window_what_is_seen():
    normal = slices(10)
    usual = ops.convert_to_numpy(StructureAwareLoss().weights(normal))
    flat = ops.convert_to_numpy(StructureAwareLoss(sigma_l1=9.0).weights(normal))
    edges = ops.convert_to_numpy(StructureAwareLoss(sigma_l2=9.0).weights(normal))
    assert (flat[..., 1] > usual[..., 1]).all()
    assert (edges[..., 0] > usual[..., 0]).all()
    lung = np.full((1, 15, 15, 1), -700.0, "float32")
    assert float(StructureAwareLoss(absolute=None)(lung, lung + 40)) == float(
        StructureAwareLoss(absolute=None)(lung, lung)
    )
    seen = StructureAwareLoss(absolute=None, window="lung")
    assert float(seen(lung, lung + 40)) > float(seen(lung, lung))


def test_other_exponents_are_a_subclass_of_one_line():
    class Cubic(StructureAwareLoss):
        exponents = (3, 1)

    normal = np.full((1, 15, 15, 1), 40.0, "float32")
    cubic = Cubic(absolute=None, terms=["l2"])
    assert float(cubic(normal, normal + 80)) == pytest.approx(0.2**3, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size": 10}, r"Expected an odd size of 1 or more. Received: 10"),
        ({"strength": "root"}, r"Expected strength to be one of \('literal', 'sqrt'\). Received: 'root'"),
        ({"window": "brain"}, r"Expected window to be one of \('soft', 'lung', 'full'\). Received: 'brain'"),
        ({"absolute": "all"}, r"Expected absolute to be one of \('hu', 'window', None\). Received: 'all'"),
        ({"terms": ["l3"]}, r"Expected one or more of the terms \('l2', 'l1', 'ssim'\). Received: \['l3'\]"),
        ({"terms": []}, r"Expected one or more of the terms"),
        ({"sigma_l1": float("nan")}, r"Expected finite numbers. Received: sigma_l2=1.8, sigma_l1=nan"),
    ],
)
def test_wrong_values_are_refused_when_the_loss_is_built(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        StructureAwareLoss(**arguments)


def test_every_argument_survives_serialisation():
    told = {"sigma_l2": 2.0, "sigma_l1": 0.1, "window": "lung", "absolute": None, "terms": ["l1", "ssim"]}
    again = StructureAwareLoss.from_config(StructureAwareLoss(**told).get_config())
    assert told.items() <= again.get_config().items()


@pytest.mark.parametrize("convention", WINDOWS)
def test_the_metrics_of_keras_are_those_of_numpy(convention):
    normal_hu = np.stack([torso(75, 83, 1, mm).volume_hu[0] for mm in (4.0, 4.5)])
    rng = np.random.default_rng(11)
    metrics_of_keras = PSNR(convention), SSIM(convention)
    expected = [], []
    for scale in (3.0, 40.0):  # what is known of the first batch stays known
        denoised_hu = (normal_hu + rng.normal(0, scale, normal_hu.shape)).astype("float32")
        for metric in metrics_of_keras:
            metric.update_state(normal_hu[..., None], denoised_hu[..., None])
        for numbers, function in zip(expected, (metrics.psnr, metrics.ssim), strict=True):
            numbers += [
                function(n, d, convention=convention) for n, d in zip(normal_hu, denoised_hu, strict=True)
            ]
    for metric, numbers in zip(metrics_of_keras, expected, strict=True):
        assert float(metric.result()) == pytest.approx(np.mean(numbers), abs=1e-5)


def test_an_unknown_convention_is_refused():
    for metric in (PSNR, SSIM):
        with pytest.raises(ValueError, match=r"Expected convention to be one of .* Received: 'brain'"):
            metric("brain")


def test_callbacks_monitor_the_metrics_and_know_that_more_is_better(tmp_path):
    network = StructKPN("edge", blocks=0, channels=4)
    network.compile(optimizer="adam", loss=StructureAwareLoss(), metrics=[PSNR("soft"), SSIM("soft")])
    slice_hu = slices(12)[:, :, :16]
    slice_hu = np.pad(slice_hu, [(0, 0), (0, 1), (0, 8), (0, 0)], mode="reflect")
    stop = keras.callbacks.EarlyStopping(monitor="val_psnr_soft", patience=5)
    keep = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_ssim_soft", save_best_only=True
    )
    fitted = network.fit(
        slice_hu, slice_hu, validation_data=(slice_hu, slice_hu), epochs=2, verbose=0, callbacks=[stop, keep]
    )
    assert {"psnr_soft", "val_psnr_soft", "ssim_soft", "val_ssim_soft"} <= set(fitted.history)
    assert stop.monitor_op(2, 1)
    again = keras.saving.load_model(tmp_path / "best.keras")
    scores = again.evaluate(slice_hu, slice_hu, verbose=0, return_dict=True)
    assert scores["ssim_soft"] == pytest.approx(max(fitted.history["val_ssim_soft"]), abs=1e-4)
