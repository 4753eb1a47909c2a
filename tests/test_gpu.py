"""The GPU computes what the CPU computes, or is not used; on SwiftShader's Vulkan, in software."""

import ctypes.util
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import Release, to_tflite
from kpn_tf import cli
from kpn_tf.denoiser import Denoiser, Neighbour, artefact, gpu, trial
from kpn_tf.denoiser.cpu import Cpu
from kpn_tf.denoiser.gpu import Adapter, Gpu, GpuError
from kpn_tf.denoiser.self_test import TOLERANCE_HU, SelfTest, run_self_test
from kpn_tf.denoiser.trial import try_gpu
from kpn_tf.networks import StackKPN, StructKPN
from tests.ct_series import write_ct_series

STANDINS = Path(__file__).parent / "golden" / "standins"
BOX = STANDINS / "box.tflite"
BOX_64 = STANDINS / "box_64.tflite"
EDGE = ("--weights", "edge")

SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")


@pytest.fixture
def swiftshader(tmp_path, monkeypatch):
    """A machine whose only GPU is Chromium's, which computes on the CPU."""
    if not SWIFTSHADER.is_file() or ctypes.util.find_library("vulkan") is None:
        pytest.skip(f"needs {SWIFTSHADER} and libvulkan (Debian: chromium-common, libvulkan1)")
    monkeypatch.setenv("VK_ICD_FILENAMES", str(SWIFTSHADER))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def no_adapter(monkeypatch):
    """A machine without a GPU: Vulkan, if it is there, finds no driver."""
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nonexistent")


@pytest.fixture
def small_installation(tmp_path, monkeypatch):
    """An installation whose `edge` is the 7x7 mean, with a fixed form of 64x64."""
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(BOX, folder / "edge.tflite")
    shutil.copy(BOX_64, folder / "edge_64.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", folder)
    monkeypatch.setattr(artefact, "FIXED_SIDE", 64)
    return folder


def convert(function, side, path, track=None, **metadata):
    """Writes a function on `(1, side, side, 1)` HU as a network of fixed size."""
    archive = keras.export.ExportArchive()
    if track is not None:
        archive.track(track)
    signature = [tf.TensorSpec((1, side, side, 1), tf.float32, name="slice_hu")]
    archive.add_endpoint("serving_default", function, input_signature=signature)
    folder = path.with_suffix("")
    archive.write_out(folder, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    path.write_bytes(converter.convert())
    about = {"model": path.stem, "version": "1", "licence": "none", "side": side, **metadata}
    with zipfile.ZipFile(path, "a") as member:
        member.writestr("metadata.json", json.dumps(about))
    return path


@pytest.fixture(scope="module")
def edge_128(tmp_path_factory):
    """The shipped network for 128x128: small enough for an adapter in software."""
    keras.config.set_dtype_policy("float32")
    network = StructKPN("edge")
    network.load_weights(artefact.WEIGHTS_FOLDER / "edge.keras")
    path = tmp_path_factory.mktemp("edge") / "edge_128.tflite"
    to_tflite(network, path, Release("1", "none", "none"), precision="float32", side=128)
    return path


@pytest.fixture(scope="module")
def pair_128(edge_128):
    """The shipped network of stacks for 128x128, with `edge_128` for slices without near neighbours."""
    path = edge_128.with_name("stack_128.tflite")
    export = {"precision": "float32", "side": 128, "alone": edge_128, "alone_beyond_mm": 3.5}
    to_tflite(StackKPN.from_preset("stack"), path, Release("1", "none", "none"), **export)
    return path


@pytest.fixture(scope="module")
def shifts(tmp_path_factory):
    """A kernel for every pixel, applied as 441 shifted slices, each times its tap, added up.

    Right on the CPU. On a GPU LiteRT fuses the sum into one program that binds more textures
    than WebGPU allows; the adapter rejects it, and the output is what lay in memory.
    """
    k, side = 21, 64
    weights = np.random.default_rng(5).normal(0.0, 0.01, (3, 3, 1, k * k)).astype("float32")

    def local_conv(slice_hu):
        taps = tf.nn.softmax(tf.nn.conv2d(slice_hu, weights, 1, "SAME"), axis=-1)  # (1, H, W, k * k)
        padded = tf.pad(slice_hu, [[0, 0], [k // 2] * 2, [k // 2] * 2, [0, 0]], mode="REFLECT")
        denoised = 0.0
        for tap, (i, j) in enumerate(itertools.product(range(k), range(k))):
            denoised += padded[:, i : i + side, j : j + side] * taps[..., tap : tap + 1]
        return denoised

    return convert(local_conv, side, tmp_path_factory.mktemp("shifts") / "shifts.tflite", halo=11, multiple=1)


ASK_LITERT = """
import sys
from ai_edge_litert.compiled_model import CompiledModel, GpuOptions, HardwareAccelerator, Options
options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=True))
print("fully accelerated:", CompiledModel.from_file(sys.argv[1], options=options).is_fully_accelerated())
"""


def slice_of(rows, columns, seed=7):
    return np.random.default_rng(seed).normal(40.0, 300.0, (rows, columns)).astype(np.float32)


def kpn(*words):
    return cli.main([str(word) for word in words])


# The self-test, on any machine


def test_two_ways_to_compute_one_network_pass():
    test = run_self_test(Cpu(BOX_64, 1), Cpu(BOX, 2), 64)
    assert test.passed
    assert min(test.gpu_ms, test.cpu_ms) > 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda batch_hu, right_hu: batch_hu,
        lambda batch_hu, right_hu: np.where(np.arange(64) == 63, np.nan, right_hu[..., 0])[..., None],
        lambda batch_hu, right_hu: np.full_like(right_hu, np.inf),
        lambda batch_hu, right_hu: right_hu.astype(np.float16).astype(np.float32),
        lambda batch_hu, right_hu: right_hu + 0.06 * (np.indices((64, 64)).sum(0) == 126)[None, :, :, None],
    ],
    ids=["the noisy slice", "one column of NaN", "infinity", "half precision", "one pixel off by 0.06 HU"],
)
def test_wrong_numbers_fail(wrong):
    right = Cpu(BOX_64, 1)
    assert not run_self_test(lambda batch_hu: wrong(batch_hu, right(batch_hu)), right, 64).passed


class FakeGpu:
    """An adapter that computes on the CPU and is told what it is."""

    software = False

    def __init__(self, path, side, slices):
        self.adapter = Adapter("Fast Card", self.software)
        self.run = Cpu(path, 1)
        self.closed = False

    def __call__(self, *inputs):
        return self.run(*inputs)

    def check(self):
        pass

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("device", "software", "gpu_ms", "chosen", "why"),
    [
        ("gpu", False, 90.0, "gpu", "computing on the GPU, Fast Card, within"),
        ("gpu", True, 90.0, "gpu", "computing on the GPU, Fast Card, within"),
        ("auto", False, 5.0, "gpu", "computing on the GPU, Fast Card, within"),
        ("auto", False, 90.0, "cpu", "Fast Card, is not used: it takes 90 ms a tile and the CPU 80 ms"),
        ("auto", True, 5.0, "cpu", "Fast Card, is not used: it is itself a program on the CPU"),
    ],
)
def test_auto_takes_an_adapter_that_is_real_and_faster_and_gpu_takes_any(
    monkeypatch, small_installation, device, software, gpu_ms, chosen, why
):
    monkeypatch.setattr(trial, "Gpu", type("FakeGpu", (FakeGpu,), {"software": software}))
    monkeypatch.setattr(trial, "run_self_test", lambda gpu, cpu, side, slices: SelfTest(0.0001, gpu_ms, 80.0))
    denoise = Denoiser("edge", device=device, threads=1)
    assert denoise.device == chosen
    assert why in denoise.device_note
    assert denoise.adapter == "Fast Card"
    assert denoise.artefact.path.stem == ("edge_64" if chosen == "gpu" else "edge")


@pytest.mark.slow
def test_a_stack_is_proved_with_its_distances(pair_128):
    right = Cpu(pair_128, 1)
    assert run_self_test(right, right, 128, 5).passed
    assert not run_self_test(
        lambda stack_hu, distances_mm: right(stack_hu, 2 * distances_mm), right, 128, 5
    ).passed


# Without an adapter


@pytest.mark.parametrize("device", ["gpu", "auto"])
def test_without_an_adapter_the_cpu_computes_and_one_line_says_why(no_adapter, small_installation, device):
    denoise = Denoiser("edge", device=device, threads=1)
    assert (denoise.device, denoise.adapter) == ("cpu", None)
    assert denoise.device_note == (
        "computing on the CPU; the GPU is not used: LiteRT finds no GPU that it can use"
    )
    assert denoise.identity == Denoiser("edge", threads=1).identity
    slice_hu = slice_of(70, 33)
    np.testing.assert_array_equal(denoise(slice_hu), Denoiser("edge", threads=1)(slice_hu))


def test_a_network_of_any_size_stays_on_the_cpu_and_one_line_says_why():
    denoise = Denoiser(BOX, device="gpu", threads=1)
    assert denoise.device == "cpu"
    assert denoise.device_note.endswith(
        "the GPU is not used: it needs a network of fixed size, and box.tflite takes any"
    )


def test_a_job_without_an_adapter_says_so_once_and_goes_on(no_adapter, small_installation, tmp_path, capfd):
    write_ct_series(tmp_path / "in", slices=2)
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", *EDGE, "--device", "gpu") == 0
    out, err = capfd.readouterr()
    assert err == (
        "kpn denoise: computing on the CPU; the GPU is not used: LiteRT finds no GPU that it can use\n"
    )
    assert "1 series, 2 slices" in out


def test_info_says_why_there_is_no_gpu(no_adapter, small_installation, capfd):
    assert kpn("info") == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "device GPU: not used: LiteRT finds no GPU that it can use\n" in out


def test_a_driver_that_crashes_while_loading_leaves_the_cpu(small_installation, monkeypatch, tmp_path):
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    denoise = Denoiser("edge", device="gpu", threads=1)
    assert denoise.device == "cpu"
    assert denoise.device_note.endswith("is not used: its driver or LiteRT broke down (signal 11)")


def test_a_driver_that_hangs_while_loading_leaves_the_cpu(small_installation, monkeypatch, tmp_path):
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))
    monkeypatch.setattr(gpu, "_TIMEOUT_S", 0.3)
    denoise = Denoiser("edge", device="gpu", threads=1)
    assert denoise.device == "cpu"
    assert "is not used: it did not answer within" in denoise.device_note


# On SwiftShader


def test_the_shipped_network_gives_the_cpus_numbers_on_the_gpu(swiftshader, edge_128):
    denoise = Denoiser(edge_128, device="gpu")
    assert denoise.device == "gpu"
    assert denoise.adapter.startswith("SwiftShader")
    assert re.search(r"^computing on the GPU, SwiftShader.*, within \S+ HU of the CPU$", denoise.device_note)
    assert denoise.identity == Denoiser(edge_128).identity
    for shape in [(157, 101), (31, 40)]:
        slice_hu = slice_of(*shape)
        difference_hu = np.abs(denoise(slice_hu) - Denoiser(edge_128)(slice_hu)).max()
        assert difference_hu < 0.05


@pytest.mark.slow
def test_a_network_of_stacks_and_the_one_of_single_slices_give_the_cpus_numbers_on_the_gpu(
    swiftshader, pair_128
):
    denoise, right = Denoiser(pair_128, device="gpu"), Denoiser(pair_128)
    assert (denoise.device, denoise.used_with([]).device) == ("gpu", "gpu")
    assert re.search(r"^computing on the GPU, SwiftShader.*, within \S+ HU of the CPU$", denoise.device_note)
    middle_hu, *others_hu = (slice_of(131, 101, seed) for seed in range(5))
    for distance_mm in (1.0, 4.0):
        beside = [Neighbour(one, distance_mm) for one in others_hu[:3]] + [None]
        denoised_hu = right(middle_hu, None, beside)
        np.testing.assert_allclose(denoise(middle_hu, None, beside), denoised_hu, atol=0.05, rtol=0)
    # So far away there is no neighbour, and a crash of the one network leaves the other on the GPU.
    np.testing.assert_array_equal(denoised_hu, Denoiser(pair_128.with_name("edge_128.tflite"))(middle_hu))
    os.kill(denoise._network._worker.pid, signal.SIGKILL)
    near = [Neighbour(others_hu[0], 1.0), *[None] * 3]
    np.testing.assert_array_equal(denoise(middle_hu, None, near), right(middle_hu, None, near))
    assert re.search(
        r"^continued on the CPU; .*; slices without neighbours: computing on the GPU, SwiftShader",
        denoise.device_note,
    )


def test_a_slice_in_tiles_of_fixed_size_equals_the_whole_slice_away_from_mirrored_borders(edge_128):
    slice_hu = slice_of(157, 101)
    fixed_hu, any_size_hu = Denoiser(edge_128)(slice_hu), Denoiser("edge")(slice_hu)
    # 157 rows are cut, with exact seams; 101 columns are mirrored up to 128, and a pixel sees 45 pixels far.
    np.testing.assert_allclose(fixed_hu[:, : 101 - 45], any_size_hu[:, : 101 - 45], atol=0.05, rtol=0)


@pytest.mark.slow
def test_a_graph_that_the_adapter_miscomputes_is_caught_by_its_values(swiftshader, shifts):
    # LiteRT calls it fully accelerated, running it succeeds ...
    run = subprocess.run([sys.executable, "-c", ASK_LITERT, str(shifts)], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "fully accelerated: True"
    on_gpu = Gpu(shifts, 64)
    slice_hu = slice_of(64, 64)
    batch_hu = slice_hu[None, :, :, None]
    # ... and what comes back is the noisy slice itself.
    np.testing.assert_array_equal(on_gpu.run(batch_hu), batch_hu)
    right_hu = Cpu(shifts, 1)(batch_hu)
    assert np.abs(right_hu - batch_hu).max() > 100
    on_gpu.close()

    denoise = Denoiser(shifts, device="gpu", threads=1)
    assert denoise.device == "cpu"
    assert re.search(
        r"the GPU, SwiftShader.*, is not used: its self-test differs from the CPU by \S+ HU, more than 0.05 HU$",
        denoise.device_note,
    )
    np.testing.assert_array_equal(denoise(slice_hu), right_hu[0, :, :, 0])


def test_a_graph_of_which_a_part_would_run_on_the_cpu_is_refused(swiftshader, tmp_path):
    def ordered(slice_hu):
        return slice_hu + tf.cast(tf.math.argmax(slice_hu, axis=1), tf.float32)[:, None]

    network = convert(ordered, 64, tmp_path / "ordered.tflite", halo=3, multiple=1)
    with pytest.raises(GpuError, match="it cannot run all of the network") as refusal:
        Gpu(network, 64)
    assert refusal.value.adapter.name.startswith("SwiftShader")


def test_auto_never_takes_an_adapter_in_software(swiftshader):
    denoise = Denoiser(BOX_64, device="auto", threads=1)
    assert denoise.device == "cpu"
    assert denoise.device_note.endswith("is not used: it is itself a program on the CPU")


def test_a_job_on_the_gpu_says_so_and_nothing_of_litert_shows(
    swiftshader, small_installation, tmp_path, capfd
):
    write_ct_series(tmp_path / "in", slices=2, rows=52, columns=73)
    assert kpn("denoise", tmp_path / "in", tmp_path / "gpu", *EDGE, "--device", "gpu", "--json") == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["device"] == "gpu"
    assert document["adapter"].startswith("SwiftShader")
    assert err == f"kpn denoise: {document['device_note']}\n"
    assert document["network"]["file_sha256"] == artefact.open_artefact("edge_64").file_sha256
    assert document["slices_written"] == 2


def test_info_tells_the_adapter_and_what_its_self_test_found(swiftshader, small_installation, capfd):
    assert kpn("info", "--json") == 0
    out, err = capfd.readouterr()
    assert err == ""
    about = json.loads(out)["devices"][1]
    assert (about["device"], about["software"], about["reason"]) == ("GPU", True, None)
    assert about["name"].startswith("SwiftShader")
    test = about["self_test"]
    assert (test["network"], test["passed"]) == ("edge_64", True)
    assert 0 <= test["largest_hu"] < TOLERANCE_HU
    assert min(test["gpu_ms"], test["cpu_ms"]) > 0


def crash(denoise, monkeypatch):
    os.kill(denoise._network._worker.pid, signal.SIGSEGV)


def hang(denoise, monkeypatch):
    monkeypatch.setattr(gpu, "_TIMEOUT_S", 0.3)
    os.kill(denoise._network._worker.pid, signal.SIGSTOP)


def log_a_rejected_command(denoise, monkeypatch):
    denoise._network._log.write(b"E0000 environment.cc:105] Validation error: [Invalid CommandBuffer]\n")


def return_no_numbers(denoise, monkeypatch):
    monkeypatch.setattr(denoise._network, "run", lambda batch_hu: np.full_like(batch_hu, np.nan))


@pytest.mark.parametrize(
    ("fail", "why"),
    [
        (crash, r"its driver or LiteRT broke down \(signal 11\)"),
        (hang, "it did not answer within"),
        (log_a_rejected_command, r"it logged: E0000 .*Validation error: \[Invalid CommandBuffer\]"),
        (return_no_numbers, "it returned values that are not finite"),
    ],
)
def test_a_gpu_that_fails_between_slices_is_left_for_the_cpu(swiftshader, monkeypatch, fail, why):
    slices = [slice_of(70, 50, seed) for seed in range(3)]
    right = Denoiser(BOX_64, threads=1)
    denoise = Denoiser(BOX_64, device="gpu", threads=1)
    identity = denoise.identity
    np.testing.assert_allclose(denoise(slices[0]), right(slices[0]), atol=TOLERANCE_HU)
    fail(denoise, monkeypatch)
    for slice_hu in slices[1:]:
        np.testing.assert_array_equal(denoise(slice_hu), right(slice_hu))
    assert denoise.device == "cpu"
    assert re.search(rf"^continued on the CPU; the GPU, SwiftShader.*, failed: {why}", denoise.device_note)
    assert denoise.identity == identity


def test_a_job_whose_gpu_fails_on_the_way_is_finished_on_the_cpu_and_says_so(
    swiftshader, small_installation, tmp_path, monkeypatch, capfd
):
    run, calls = Gpu.run, []

    def run_and_crash(self, batch_hu):
        calls.append(None)
        if len(calls) == 4:  # two tiles of the self-test, the first slice, then this
            os.kill(self._worker.pid, signal.SIGKILL)
        return run(self, batch_hu)

    monkeypatch.setattr(Gpu, "run", run_and_crash)
    write_ct_series(tmp_path / "in", slices=3)
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", *EDGE, "--device", "gpu", "--json") == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    first, second = err.splitlines()
    assert first.startswith("kpn denoise: computing on the GPU, SwiftShader")
    assert second == f"kpn denoise: {document['device_note']}"
    assert (document["device"], document["slices_written"]) == ("cpu", 3)


def test_the_process_of_the_gpu_ends_with_its_denoiser(swiftshader):
    on_gpu = Gpu(BOX_64, 64)
    worker = on_gpu._worker
    assert worker.running
    del on_gpu
    assert not worker.running


def test_a_gpu_is_not_shared_with_another_process(swiftshader, monkeypatch):
    on_gpu = Gpu(BOX_64, 64)
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(GpuError, match="it belongs to another process"):
        on_gpu.run(slice_of(64, 64)[None, :, :, None])
    monkeypatch.undo()
    on_gpu.close()


def test_a_trial_tells_what_it_found(swiftshader):
    found = try_gpu(artefact.open_artefact(BOX_64), 1)
    assert found.reason is None
    assert found.adapter.software
    assert found.self_test.passed
    found.gpu.close()
