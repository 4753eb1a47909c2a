import os
import time

import numpy as np
import pytest
import tensorflow as tf

from kpn_tf.dose.series_noise import SeriesNoise, noise_like
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.evaluation import Pair
from kpn_tf.phantom import torso
from kpn_tf.training.data.slices import FIELDS
from kpn_tf.training.pairs import Ahead, MeasuredPairs, SimulatedPairs, TrainingSlice, training_slices


def flat_slices(own_hu=10.0, count=2):
    rng = np.random.default_rng(1)
    return [
        TrainingSlice(
            np.full((80, 72), 40.0, "float32"), rng.normal(size=(3, 80, 72)).astype("float16"), own_hu
        )
        for _ in range(count)
    ]


def pairs_of(slices, **options):
    return SimulatedPairs(slices, **{"batch_size": 64, "steps": 3, "patch": 32, **options})


def test_a_batch_depends_on_seed_and_index_alone():
    first, again = pairs_of(flat_slices()), pairs_of(flat_slices())
    again[2]
    np.testing.assert_array_equal(first[1][0], again[1][0])
    assert np.any(first[1][0] != first[0][0])
    assert np.any(first[1][0] != pairs_of(flat_slices(), seed=1)[1][0])


def test_low_dose_noise_lies_between_the_own_and_the_most_normal_dose_noise_over_the_dose():
    low, _ = pairs_of(flat_slices())[0]
    added = low.std(axis=(1, 2, 3))
    own, most = 10.0, 30.0
    # Added variance: level^2 / dose - own^2, with the level from own to most.
    assert added.min() > 0.9 * np.sqrt(4 * own**2 - own**2)
    assert added.max() < 1.1 * np.sqrt(4 * most**2 - own**2)
    at_own = np.abs(added / np.sqrt(3 * own**2) - 1) < 0.06
    assert 0.2 < at_own.mean() < 0.65


def test_the_target_keeps_the_share_of_the_noise_that_a_normal_dose_would_have():
    low, normal = pairs_of(flat_slices())[1]
    added, kept = low - 40, normal - 40
    share = (kept * added).sum(axis=(1, 2, 3)) / (added**2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(kept, share[:, None, None, None] * added, atol=1e-3)
    level = np.sqrt((added.var(axis=(1, 2, 3)) + 10.0**2) / 4)
    np.testing.assert_allclose(share, (level**2 - 100) / (4 * level**2 - 100), atol=0.02)


def test_a_crop_of_air_is_drawn_again():
    slice_hu = np.full((96, 96), -1000.0, "float32")
    slice_hu[:, 64:] = 40.0
    source = TrainingSlice(slice_hu, np.zeros((1, 96, 96), "float16"), 10.0)
    _, normal = pairs_of([source])[0]
    assert ((normal < -900).mean(axis=(1, 2, 3)) > 0.8).mean() < 0.05


def test_series_slices_get_noise_of_unit_strength():
    y, x = np.mgrid[:96, :104]
    body = np.where(((y - 48) / 30) ** 2 + ((x - 52) / 40) ** 2 < 1, 40.0, -1000.0)
    noise = SeriesNoise(9.0, SPECTRA["soft"])
    slices = training_slices(body[None], 0.8, noise, np.random.default_rng(2), weight=2.0)
    (one,) = slices
    assert (one.noise_std_hu, one.weight, one.noise.shape) == (9.0, 2.0, (3, 96, 104))
    strength = one.noise[:, body > 0].astype("float32").std(axis=1)
    np.testing.assert_allclose(strength, 1, atol=0.2)


def test_an_interruption_does_not_wait_for_the_noise_of_every_slice(monkeypatch):
    made = []
    monkeypatch.setattr(
        "kpn_tf.training.data.slices.noise_like", lambda *what: made.append(1) or noise_like(*what)
    )

    def interrupted(jobs):
        raise KeyboardInterrupt
        yield from jobs

    volume_hu = np.full((400, 96, 104), 40.0)
    with pytest.raises(KeyboardInterrupt):
        training_slices(
            volume_hu,
            0.8,
            SeriesNoise(9.0, SPECTRA["soft"]),
            np.random.default_rng(2),
            progress=interrupted,
        )
    # Of 1200 fields, those of the slices that were begun: one for each processor.
    assert len(made) <= FIELDS * os.cpu_count()


def test_what_no_pair_can_be_drawn_from_is_refused():
    with pytest.raises(ValueError, match="at least one slice"):
        pairs_of([])
    with pytest.raises(ValueError, match="at least 96×96 pixels"):
        pairs_of(flat_slices(), patch=96)
    with pytest.raises(ValueError, match="dose between 0 and 1"):
        pairs_of(flat_slices(), dose=4)


def measured(**how):
    rng = np.random.default_rng(4)
    slices = [rng.normal(40, 10, (37, 41 + 6 * i)).astype("float32") for i in range(3)]
    found = [Pair(normal + 7, normal, "P", str(i), (0.8, 0.8)) for i, normal in enumerate(slices)]
    return MeasuredPairs(found, **{"batch_size": 5, "steps": 4, "patch": 24, "seed": 3, **how})


def test_patches_of_both_doses_are_cut_from_one_place_and_turned_alike():
    low, normal = measured()[0]
    assert low.shape == normal.shape == (5, 24, 24, 1)
    np.testing.assert_allclose(low - normal, 7, atol=1e-4)


def test_a_batch_of_measured_pairs_depends_on_the_seed_and_its_number_alone():
    first, again, other = measured(), measured(), measured(seed=4)
    np.testing.assert_array_equal(first[2][0], again[2][0])
    assert (first[2][0] != first[1][0]).any()
    assert (first[2][0] != other[2][0]).any()
    assert first.describe() == again.describe() != other.describe()


def test_measured_pairs_smaller_than_a_patch_are_refused():
    with pytest.raises(ValueError, match=r"at least 40×40 pixels. Received: a smaller one"):
        measured(patch=40)
    with pytest.raises(ValueError, match="Received: none"):
        MeasuredPairs([], batch_size=1, steps=1)


def test_batches_made_ahead_are_the_same_and_ready_before_they_are_asked_for():
    pairs, made = pairs_of(flat_slices(), batch_size=2), []

    class Watched:
        def __len__(self):
            return len(pairs)

        def __getitem__(self, index):
            if index == 2:
                raise OSError("the disk is gone")
            made.append(index)
            return pairs[index]

    ahead = Ahead(Watched())
    np.testing.assert_array_equal(ahead[0][0], pairs[0][0])
    until = time.monotonic() + 300
    while made != [0, 1] and time.monotonic() < until:
        time.sleep(0.001)
    assert made == [0, 1]
    np.testing.assert_array_equal(ahead[1][1], pairs[1][1])
    # What goes wrong ahead goes wrong in its own step.
    with pytest.raises(OSError, match="the disk is gone"):
        ahead[2]


def test_batches_made_ahead_may_begin_anywhere_and_end_with_the_last():
    pairs = pairs_of(flat_slices(), batch_size=2)
    ahead = Ahead(pairs)
    for index in (2, 0, 2, 1, 1):
        np.testing.assert_array_equal(ahead[index][0], pairs[index][0])
    assert ahead.describe() == pairs.describe()


def test_draws_follow_the_weights_as_those_of_numpy_do():
    weights = [0.3, 1.0, 0.05, 2.0]
    slices = [
        TrainingSlice(np.full((40, 40), 100.0 * i, "float32"), np.zeros((1, 40, 40), "float16"), 10.0, weight)
        for i, weight in enumerate(weights)
    ]
    _, normal = pairs_of(slices, batch_size=1, steps=1, seed=6)[0]
    first = np.random.default_rng([6, 0]).choice(4, p=np.array(weights) / np.sum(weights))
    assert normal.mean() == 100.0 * first
    _, normal = pairs_of(slices, batch_size=2000, steps=1)[0]
    drawn = np.bincount((normal[:, 0, 0, 0] / 100).astype(int), minlength=4) / 2000
    np.testing.assert_allclose(drawn, np.array(weights) / np.sum(weights), atol=0.03)


def test_pairs_of_an_array_are_drawn_from_its_slices_and_its_noise():
    volume_hu = torso(rows=128, columns=128, slices=2, pixel_spacing_mm=3.0).volume_hu
    how = {"batch_size": 2, "steps": 3, "patch": 32, "seed": 5}
    pairs = SimulatedPairs.from_volume(volume_hu, 3.0, noise=8.0, **how)
    slices = training_slices(volume_hu, 3.0, SeriesNoise(8.0, SPECTRA["soft"]), np.random.default_rng(5))
    expected = SimulatedPairs(slices, **how)
    for index in range(3):
        np.testing.assert_array_equal(pairs[index][0], expected[index][0])
        np.testing.assert_array_equal(pairs[index][1], expected[index][1])
    noisy_hu = volume_hu + np.random.default_rng(6).normal(0, 12, volume_hu.shape)
    measured_there = SimulatedPairs.from_volume(noisy_hu, 3.0, **how)
    assert measured_there.slices[0].noise_std_hu == pytest.approx(12, rel=0.2)


def test_an_array_of_another_shape_or_without_noise_is_refused():
    how = {"batch_size": 1, "steps": 1, "patch": 32}
    with pytest.raises(
        ValueError, match=r"finite slices of shape \(Z, H, W\) in HU. Received: shape \(64, 64\)"
    ):
        SimulatedPairs.from_volume(np.zeros((64, 64)), 1.0, noise=8.0, **how)
    with pytest.raises(ValueError, match="Received: none; state the noise"):
        SimulatedPairs.from_volume(np.full((2, 64, 64), -1000.0), 1.0, **how)


@pytest.mark.parametrize("kind", ["tuples", "generator", "channels", "batches", "tf.data"])
def test_measured_pairs_come_from_any_iterable(kind):
    objects = measured(steps=2).pairs
    low, normal = (np.stack([getattr(p, n)[:37, :41] for p in objects]) for n in ("low_hu", "normal_hu"))
    expected = MeasuredPairs(zip(low, normal, strict=True), batch_size=5, steps=2, patch=24)
    channels = list(zip(low[..., None], normal[..., None], strict=True))
    given = {
        "tuples": lambda: list(zip(low, normal, strict=True)),
        "generator": lambda: (pair for pair in channels),
        "channels": lambda: channels,
        "batches": lambda: [
            (low[:2, ..., None], normal[:2, ..., None]),
            (low[2:, ..., None], normal[2:, ..., None]),
        ],
        "tf.data": lambda: (
            tf.data.Dataset.from_tensor_slices((low, normal))
            .batch(2)
            .map(lambda *both: tuple(one[..., None] for one in both))
        ),
    }[kind]()
    pairs = MeasuredPairs(given, batch_size=5, steps=2, patch=24)
    assert pairs.describe() == expected.describe()
    np.testing.assert_array_equal(pairs[1][0], expected[1][0])


def test_slices_of_two_shapes_are_no_pair():
    with pytest.raises(ValueError, match=r"of one shape: .* Received: \(30, 30\) and \(30, 31\)"):
        MeasuredPairs([(np.zeros((30, 30)), np.zeros((30, 31)))], batch_size=1, steps=1, patch=24)
