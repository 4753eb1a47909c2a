"""The denoiser gives what its network gives, whatever the size, and refuses what it cannot answer for."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import kpn_tf
from kpn_tf.denoiser import Denoiser, artefact, devices

STANDINS = Path(__file__).parent / "golden" / "standins"
BOX = STANDINS / "box.tflite"
BOX_64 = STANDINS / "box_64.tflite"
BLOCKS = STANDINS / "blocks.tflite"


def slice_of(rows, columns, seed=7):
    return np.random.default_rng(seed).normal(40.0, 300.0, (rows, columns)).astype(np.float32)


def box_mean(slice_hu):
    """Mean over 7x7 with reflected borders, one pixel at a time."""
    padded = np.pad(slice_hu.astype(np.float64), 3, mode="reflect")
    mean = np.empty(slice_hu.shape)
    for row in range(slice_hu.shape[0]):
        for column in range(slice_hu.shape[1]):
            mean[row, column] = padded[row : row + 7, column : column + 7].mean()
    return mean


def test_the_output_is_what_the_network_defines():
    slice_hu = slice_of(37, 23)
    np.testing.assert_allclose(Denoiser(BOX, threads=1)(slice_hu), box_mean(slice_hu), atol=1e-3)


@pytest.mark.parametrize("network", [BOX, BLOCKS], ids=["box", "blocks"])
@pytest.mark.parametrize("shape", [(801, 333), (333, 799), (1001, 903)])
def test_a_tiled_slice_equals_the_slice_in_one_piece(network, shape):
    slice_hu = slice_of(*shape)
    tiled_hu = Denoiser(network, threads=1)(slice_hu)
    whole = Denoiser(network, threads=1)
    whole.artefact = dataclasses.replace(whole.artefact, whole_side=4000)
    whole_hu = whole(slice_hu)
    np.testing.assert_allclose(tiled_hu, whole_hu, atol=1e-3, rtol=0)


def test_a_large_slice_never_enters_the_network_in_one_piece(monkeypatch):
    seen = []
    denoise = Denoiser(BOX, threads=1)
    infer = denoise._infer
    monkeypatch.setattr(
        denoise, "_infer", lambda tile_hu, mm: seen.append(tile_hu.shape) or infer(tile_hu, mm)
    )
    denoise(slice_of(1601, 801))
    assert max(max(shape) for shape in seen) <= 770


@pytest.mark.parametrize("shape", [(1, 1), (2, 30), (11, 7), (20, 21)])
def test_a_tiny_slice_is_answered_as_if_its_edge_went_on(shape):
    slice_hu = slice_of(*shape)
    grown_hu = np.pad(slice_hu, [(0, max(0, 21 - side)) for side in shape], mode="edge")
    denoised_hu = Denoiser(BOX, threads=1)(slice_hu)
    assert denoised_hu.shape == shape
    np.testing.assert_allclose(denoised_hu, box_mean(grown_hu)[: shape[0], : shape[1]], atol=1e-3)


@pytest.mark.parametrize("shape", [(64, 64), (65, 63), (150, 201), (40, 97), (1, 30)])
def test_a_network_of_fixed_size_takes_slices_of_any_size_too(shape):
    slice_hu = slice_of(*shape)
    fixed_hu = Denoiser(BOX_64, threads=1)(slice_hu)
    assert fixed_hu.shape == shape
    # Sides below 64 are mirrored, and there the network's own border lies elsewhere.
    inside = tuple(slice(length if length >= 64 else max(0, length - 3)) for length in shape)
    expected_hu = Denoiser(BOX, threads=1)(slice_hu)
    np.testing.assert_allclose(fixed_hu[inside], expected_hu[inside], atol=1e-3, rtol=0)


def test_a_network_of_fixed_size_sees_nothing_but_tiles_of_that_size(monkeypatch):
    seen = []
    denoise = Denoiser(BOX_64, threads=1)
    network = denoise._network
    monkeypatch.setattr(
        denoise, "_network", lambda batch_hu: seen.append(batch_hu.shape) or network(batch_hu)
    )
    denoise(slice_of(130, 50))
    assert seen == [(1, 64, 64, 1)] * 3


def test_strength_mixes_the_slice_and_its_denoised_self():
    slice_hu = slice_of(33, 29)
    full_hu = Denoiser(BOX, threads=1)(slice_hu)
    third_hu = Denoiser(BOX, threads=1, strength=0.3)(slice_hu)
    np.testing.assert_allclose(third_hu, slice_hu + 0.3 * (full_hu - slice_hu), atol=1e-3)


def test_strength_zero_returns_the_slice_itself_bit_for_bit():
    slice_hu = slice_of(33, 29)
    denoised_hu = Denoiser(BOX, threads=1, strength=0.0)(slice_hu)
    np.testing.assert_array_equal(denoised_hu, slice_hu)
    assert not np.shares_memory(denoised_hu, slice_hu)


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_pixels_outside_the_field_of_view_are_air_to_the_network_and_come_back_untouched(strength):
    slice_hu = slice_of(41, 35)
    padding = np.zeros((41, 35), bool)
    padding[:9] = True
    slice_hu[padding] = -3024.0
    in_air_hu = np.where(padding, -1000.0, slice_hu)
    denoised_hu = Denoiser(BOX, threads=1, strength=strength)(slice_hu, padding)
    expected_hu = in_air_hu + strength * (box_mean(in_air_hu) - in_air_hu)
    np.testing.assert_array_equal(denoised_hu[padding], slice_hu[padding])
    np.testing.assert_allclose(denoised_hu[~padding], expected_hu[~padding], atol=1e-3)


@pytest.mark.parametrize("strength", [1.0, 0.4, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_the_input_is_never_altered(strength, dtype):
    slice_hu = slice_of(33, 29).astype(dtype)
    padding = slice_hu < -300
    before, padding_before = slice_hu.copy(), padding.copy()
    denoised_hu = Denoiser(BOX, threads=1, strength=strength)(slice_hu, padding)
    np.testing.assert_array_equal(slice_hu, before)
    np.testing.assert_array_equal(padding, padding_before)
    assert denoised_hu.dtype == np.float32


def test_a_slice_in_a_strided_view_is_read_right():
    volume_hu = np.random.default_rng(3).normal(0, 100, (40, 36, 3)).astype(np.float32)
    denoise = Denoiser(BOX, threads=1)
    np.testing.assert_array_equal(denoise(volume_hu[:, :, 1]), denoise(volume_hu[:, :, 1].copy()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_number_is_refused(value):
    slice_hu = slice_of(23, 25)
    slice_hu[4, 5] = value
    with pytest.raises(ValueError, match=r"Expected finite HU. Received: 1 pixels that are NaN or infinite"):
        Denoiser(BOX, threads=1)(slice_hu)


def test_no_number_outside_the_field_of_view_is_no_harm():
    slice_hu = slice_of(23, 25)
    slice_hu[0, 0] = np.nan
    denoised_hu = Denoiser(BOX, threads=1)(slice_hu, np.isnan(slice_hu))
    assert np.flatnonzero(np.isnan(denoised_hu)).tolist() == [0]


@pytest.mark.parametrize("shape", [(), (30,), (1, 30, 30), (0, 30)])
def test_what_is_no_slice_is_refused(shape):
    with pytest.raises(ValueError, match=r"Expected a slice of shape \(H, W\). Received: shape"):
        Denoiser(BOX, threads=1)(np.zeros(shape, np.float32))


def test_padding_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"Expected padding of the slice's shape \(23, 25\)"):
        Denoiser(BOX, threads=1)(slice_of(23, 25), np.zeros((25, 23), bool))


@pytest.mark.parametrize(
    ("slice_hu", "reason"),
    [
        (
            np.ma.masked_less(slice_of(23, 25), -300),
            "a masked array; give its data, and its mask as `padding`",
        ),
        (slice_of(23, 25) > 0, "Received: bool"),
        (np.full((23, 25), 40, np.uint8), "Received: uint8"),
        (np.full((23, 25), 1064, np.uint16), "Received: uint16; .* apply slope and intercept"),
        (slice_of(23, 25).astype(complex), "Received: complex128"),
        (np.full((23, 25), "40"), "Received: <U2"),
        (np.full((23, 25), None), "Received: object"),
        (np.linspace(0, 1, 575).reshape(23, 25), "values from 0 to 1; scale them back to HU"),
        (np.linspace(-1, 0.9, 575, dtype=np.float32).reshape(23, 25), "values from -1 to 0.9"),
    ],
    ids=["masked", "bool", "uint8", "uint16", "complex", "text", "object", "0 to 1", "-1 to 1"],
)
@pytest.mark.parametrize("strength", [1.0, 0.0])
def test_what_cannot_be_hu_is_refused_with_a_sentence(slice_hu, reason, strength):
    with pytest.raises(ValueError, match=reason):
        Denoiser(BOX, threads=1, strength=strength)(slice_hu)


@pytest.mark.parametrize("slice_hu", [np.zeros((23, 25)), [[40] * 25] * 23, np.full((23, 25), 40, np.int32)])
def test_constants_lists_and_whole_numbers_are_taken(slice_hu):
    np.testing.assert_allclose(Denoiser(BOX, threads=1)(slice_hu), slice_hu, atol=1e-3)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), "0.5", None])
def test_strength_outside_zero_to_one_is_refused(strength):
    with pytest.raises(ValueError, match="Expected strength from 0 to 1"):
        Denoiser(BOX, strength=strength)


@pytest.mark.parametrize("threads", [0, "2", 1.5])
def test_no_thread_at_all_is_refused(threads):
    with pytest.raises(ValueError, match="Expected at least one thread"):
        Denoiser(BOX, threads=threads)


def test_memory_is_planned_anew_only_when_the_shape_changes(monkeypatch):
    denoise = Denoiser(BOX, threads=1)
    planned = []
    interpreter = denoise._network._interpreter
    allocate = interpreter.allocate_tensors
    monkeypatch.setattr(interpreter, "allocate_tensors", lambda: planned.append(None) or allocate())
    for shape in [(30, 40)] * 5 + [(40, 30)] * 3:
        denoise(slice_of(*shape))
    assert len(planned) == 2


def test_the_same_slice_gives_the_same_bits_whatever_came_between():
    denoise = Denoiser(BOX, threads=2)
    first_hu = denoise(slice_of(64, 48))
    denoise(slice_of(31, 801))
    np.testing.assert_array_equal(denoise(slice_of(64, 48)), first_hu)


def test_calls_from_several_threads_do_not_mix_their_slices():
    denoise = Denoiser(BOX, threads=1)
    slices = [slice_of(40 + seed % 3, 50, seed) for seed in range(12)]
    expected = [denoise(slice_hu) for slice_hu in slices]
    results = [None] * len(slices)

    def run(index):
        results[index] = denoise(slices[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(slices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, one in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, one)


def test_the_identity_names_the_file_and_the_weights_by_their_hashes():
    box, edge = Denoiser(BOX, threads=1).identity, Denoiser("edge", threads=1).identity
    assert (box.model, box.version, box.licence) == ("standin-box", "1", "Apache-2.0")
    assert box.file_sha256 == hashlib.sha256(BOX.read_bytes()).hexdigest()
    # A file of before that time.
    assert box.weights_sha256 is None
    shipped = artefact.open_artefact("edge")
    assert (edge.file_sha256, edge.weights_sha256) == (shipped.file_sha256, shipped.weights_sha256)


def test_weights_are_looked_for_where_the_wheel_puts_them():
    assert Path(kpn_tf.__file__).parent / "weights" == artefact.WEIGHTS_FOLDER


def test_a_shipped_network_is_found_by_its_name(tmp_path, monkeypatch):
    shutil.copy(BOX, tmp_path / "edge.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", tmp_path)
    assert Denoiser("edge", threads=1).identity.model == "standin-box"
    assert [network.path.stem for network in artefact.shipped()] == ["edge"]


def test_an_unknown_network_is_refused_with_the_known_ones(tmp_path, monkeypatch):
    shutil.copy(BOX, tmp_path / "edge.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"shipped weights \(edge\).*Received: papr"):
        Denoiser("papr")


def test_a_network_without_metadata_is_refused(tmp_path):
    (tmp_path / "bare.tflite").write_bytes(b"TFL3 but nothing behind it")
    with pytest.raises(ValueError, match=r"Expected a .tflite with metadata.json appended"):
        Denoiser(tmp_path / "bare.tflite")


@pytest.mark.parametrize("member", [b" " * 300_000_000, b"[" * 200_000], ids=["bomb", "deep"])
def test_metadata_that_inflate_without_limit_are_refused(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "bomb.tflite", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", member)
    assert (tmp_path / "bomb.tflite").stat().st_size < 400_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"Expected a .tflite with metadata.json appended"):
            artefact.open_artefact(tmp_path / "bomb.tflite")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_metadata_that_lacks_a_field_is_refused_by_the_field(tmp_path):
    anonymous = tmp_path / "anonymous.tflite"
    with zipfile.ZipFile(anonymous, "w") as archive:
        archive.writestr("metadata.json", '{"model": "m", "version": "1", "halo": 3}')
    with pytest.raises(
        ValueError, match=r"anonymous.tflite without licence, multiple; export the network again"
    ):
        Denoiser(anonymous)


@pytest.mark.parametrize(("side", "halo", "multiple"), [(64, 3, 3), (64, 32, 1), (64, 29, 16)])
def test_a_fixed_size_whose_tiles_could_not_overlap_is_refused(tmp_path, side, halo, multiple):
    network = tmp_path / "short.tflite"
    metadata = {"model": "m", "version": "1", "licence": "none", "halo": halo, "multiple": multiple}
    with zipfile.ZipFile(network, "w") as archive:
        archive.writestr("metadata.json", json.dumps(metadata | {"side": side}))
    with pytest.raises(ValueError, match=r"Expected a fixed side that divides by .* with 64; export it with"):
        Denoiser(network)


def test_the_fixed_form_of_a_shipped_network_is_no_network_of_its_own(tmp_path, monkeypatch):
    shutil.copy(BOX, tmp_path / "edge.tflite")
    shutil.copy(BOX_64, tmp_path / "edge_64.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", tmp_path)
    monkeypatch.setattr(artefact, "FIXED_SIDE", 64)
    (edge,) = artefact.shipped()
    assert (edge.path.name, edge.side) == ("edge.tflite", None)
    assert artefact.fixed_form(edge).path == tmp_path / "edge_64.tflite"
    assert artefact.fixed_form(artefact.open_artefact(BOX_64)).path == BOX_64
    assert artefact.fixed_form(artefact.open_artefact(BOX)) is None


def test_the_shipped_network_has_a_fixed_form_of_the_same_weights():
    edge = artefact.open_artefact("edge")
    fixed = artefact.fixed_form(edge)
    assert (fixed.side, fixed.path.stem) == (512, "edge_512")
    told = ("model", "version", "licence", "halo", "multiple", "parameters", "gmac_512", "training_data")
    assert [getattr(fixed, name) for name in told] == [getattr(edge, name) for name in told]
    slice_hu = slice_of(512, 512)
    difference_hu = Denoiser(fixed.path)(slice_hu) - Denoiser(edge.path)(slice_hu)
    assert np.abs(difference_hu).max() < 0.05


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match=r"Expected device to be one of cpu, gpu, auto\. Received: tpu"):
        Denoiser(BOX, device="tpu")


def test_on_the_cpu_nothing_is_said_of_devices():
    denoise = Denoiser(BOX, threads=1)
    assert (denoise.device, denoise.device_note, denoise.adapter) == ("cpu", None, None)


def test_a_network_that_returns_no_numbers_is_refused_when_it_is_loaded():
    with pytest.raises(ValueError, match=r"to return finite HU.*441 pixels not finite"):
        Denoiser(STANDINS / "broken.tflite")


def test_a_file_that_only_looks_like_a_network_is_refused(tmp_path):
    fake = tmp_path / "fake.tflite"
    content = BOX.read_bytes()
    fake.write_bytes(b"\0" * 64 + content[64:])
    with pytest.raises(ValueError, match="Expected a network LiteRT can run"):
        Denoiser(fake)


def test_denoising_loads_neither_tensorflow_nor_keras():
    code = (
        "import sys, numpy as np\n"
        "from kpn_tf.denoiser import Denoiser\n"
        f"Denoiser({str(BOX)!r})(np.zeros((30, 40)))\n"
        "print(sorted({'tensorflow', 'keras', 'scipy', 'skimage', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_threads_default_to_the_physical_cores_this_process_may_use_and_at_most_four(tmp_path, monkeypatch):
    for cpu in range(12):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 6},{cpu % 6 + 6}\n")
    monkeypatch.setattr(devices, "_CPU_FOLDER", tmp_path)
    for allowed, cores, threads in [({0, 6}, 1, 1), ({0, 1, 6}, 2, 2), (set(range(12)), 6, 4)]:
        monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid, allowed=allowed: allowed)
        assert (devices.physical_cores(), devices.default_threads()) == (cores, threads)


def test_every_processor_counts_where_the_system_does_not_tell_cores_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_CPU_FOLDER", tmp_path)
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: {0, 3, 5})
    assert devices.physical_cores() == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [("halo", -8), ("halo", None), ("multiple", 0), ("side", "512"), ("whole_side", 0.5), ("halo", 10**9)],
)
def test_a_size_in_the_metadata_that_is_no_size_is_refused_by_its_field(field, value, tmp_path):
    path = tmp_path / "odd.tflite"
    metadata = {"model": "m", "version": "1", "licence": "none", "halo": 3, "multiple": 1, field: value}
    path.write_bytes(b"")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
    with pytest.raises(ValueError, match=f"Expected {field} in metadata.json to be a whole number"):
        artefact.open_artefact(path)


def test_a_fixed_form_of_other_weights_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", tmp_path)
    for name, side, weights in (("edge", None, "a"), ("edge_512", 512, "a")):
        with zipfile.ZipFile(tmp_path / f"{name}.tflite", "w") as archive:
            metadata = {
                "model": "m",
                "version": "1",
                "licence": "none",
                "halo": 3,
                "multiple": 1,
                "side": side,
            }
            archive.writestr("metadata.json", json.dumps(metadata | {"weights_sha256": weights}))
    edge = artefact.open_artefact("edge")
    assert artefact.fixed_form(edge).side == 512
    assert artefact.fixed_form(dataclasses.replace(edge, weights_sha256="b")) is None
