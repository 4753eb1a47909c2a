"""`kpn benchmark` makes one page from what it trains and evaluates, goes on after a break, and says what is missing."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import tensorflow as tf

from baselines import shipped
from baselines.benchmark import (
    cost,
    dose_rows,
    figures,
    methods,
    quality,
    quality_tables,
    ship,
    tables,
    trainings,
)
from baselines.benchmark import data as benchmark_data
from baselines.benchmark import rows as rows_module
from baselines.benchmark.budget import Budget
from baselines.redcnn import REDCNN
from kpn_tf.cli.benchmark import BenchmarkConfig, command
from kpn_tf.datasets import dose
from kpn_tf.datasets.dose_noise import measure_noise
from kpn_tf.evaluation import evaluate, simulated_pairs
from kpn_tf.networks.cost import gmac
from kpn_tf.networks.struct_kpn import PRESETS
from kpn_tf.training import TrainingDivergedError, pairs
from kpn_tf.training.provenance import device_name
from tests.command import kpn
from tests.noisy_torso import noisy_volume, write_torso

GUIDE = Path(__file__).parents[1] / "docs" / "benchmark.md"
TINY = ("--steps", "2", "--batch", "2", "--patch", "32")
NAMES = ("train", "validation", "test", "phantom", "dose")
ROWS = ("low-dose", "edge-k21-l1", "redcnn-l1", "edge.tflite")


def rows(*names):
    return [word for name in names for word in ("--row", name)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, written_phantom_twin, written_dose_twin):
    """Series of a training, a validation and a test patient, three scans of the phantom's twin, two of DOSE's."""
    folder = tmp_path_factory.mktemp("data")
    write_torso(folder / "train")
    write_torso(folder / "validation", noisy_volume(2), patient_id="ID-4711")
    write_torso(folder / "test", noisy_volume(2)[::-1], patient_id="ID-4712")
    for scan in ("080kV_030mA", "080kV_150mA", "080kV_270mA"):
        shutil.copytree(written_phantom_twin / scan, folder / "phantom" / scan)
    for part in ("low/1", "normal/1"):
        shutil.copytree(written_dose_twin / part, folder / "dose" / part)
    return folder


@pytest.fixture(scope="module")
def words(folders):
    return [word for name in NAMES for word in (f"--{name}", folders / name)]


@pytest.fixture(scope="module", autouse=True)
def small():
    """Small networks and pictures, no scans of the torso, and no process that only measures time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "edge", PRESETS["edge"] | {"blocks": 1, "channels": 8})
        patch.setitem(methods._NETWORKS, "redcnn", partial(REDCNN, channels=16))
        patch.setattr(figures, "SIDE", 256)
        # What it measures is held in test_benchmark_quality.
        told = {key: [0.25, 0.75] for key, *_ in quality_tables._LESIONS}
        patch.setattr(quality, "of_torso", lambda name, denoise: told)
        patch.setattr(cost, "seconds_and_peak", lambda method, path: (0.25, 300.0))
        yield


@pytest.fixture(scope="module")
def finished(words, tmp_path_factory):
    """A finished call: folder with `results.md`, `images` and `runs`."""
    folder = tmp_path_factory.mktemp("finished")
    places = ("--runs", folder / "runs", "--output", folder / "results.md")
    assert kpn("benchmark", *words, *TINY, *rows(*ROWS), *places) == 0
    return folder


def lines_of(page, heading):
    """Cells of the rows of the first table under a heading, by title."""
    section = page.split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in reversed(lines)}


def titles_in(text):
    """First cells of the tables in it, headings among them."""
    return [line.split(" | ")[0][2:] for line in text.splitlines() if line.startswith("| ")]


def test_one_command_writes_the_page_and_its_images(finished):
    page = (finished / "results.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\(images/(\S+)\)", page))
    assert linked == {path.name for path in (finished / "images").iterdir()}
    assert linked == {f"results_fig{n}" for n in ("2.png", "3.png", "6.png", "5.svg")} | {
        "results_dose_noise.svg"
    }
    *begun, untouched = tables.TABLES
    assert untouched.title not in page
    for table in begun:
        found = lines_of(page, table.title)
        for row in table.rows:
            if row.published:
                assert found[row.title][-1] == "{:.2f} / {:.3f}".format(*row.published)
            assert (found[row.title][0] == "not run") == (row.method.name not in ROWS)
    beside = page.split("## Table 2")[1].split("## Figures")[0].split("Faint lesions")[1]
    titles = ["low dose", "StructKPN `edge`, L1"]
    for told in beside.split("Noise and structure"):
        assert titles_in(told)[1:3] == titles
    kernels = page.split("Kernels in numbers")[1].split("![")[0]
    assert titles_in(kernels)[1:] == ["StructKPN edge, the weights that are shipped", "StructKPN edge, L1"]


def test_pictures_fit_a_page_and_are_quickly_loaded(finished):
    pillow = pytest.importorskip("PIL.Image")
    for path in (finished / "images").iterdir():
        assert path.stat().st_size < 700_000, path
    for path in (finished / "images").glob("*.png"):
        with pillow.open(path) as image:
            assert 600 <= image.width <= 900, path


def test_without_matplotlib_the_page_is_written_without_figures(
    finished, words, tmp_path, monkeypatch, capfd
):
    # What Python itself writes there to forbid an import.
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    places = ("--runs", finished / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words, *TINY, *rows(*ROWS), *places) == 0
    said = capfd.readouterr()
    line = "left out: figures: drawing them needs the figures extra: in a checkout, pip install '.[figures]'"
    assert said.err.splitlines().count(line) == 1
    assert said.out.endswith(f"{tmp_path / 'results.md'}: written\n")
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    tables_of, figures_of = page.split("## Figures")
    assert "not drawn: that needs `pip install '.[figures]'`" in figures_of
    assert (finished / "results.md").read_text(encoding="utf-8").startswith(tables_of)
    assert [path.name for path in tmp_path.iterdir()] == ["results.md"]


def test_a_method_done_where_its_extra_is_installed_is_left_out_of_the_pictures_where_it_is_not(
    finished, words, tmp_path, monkeypatch, capfd
):
    opened = rows_module.Benchmark.opened

    def without_one(self, method):
        if method.is_shipped:
            raise ImportError("BM3D needs the baselines extra: in a checkout, pip install '.[baselines]'")
        return opened(self, method)

    monkeypatch.setattr(rows_module.Benchmark, "opened", without_one)
    places = ("--runs", finished / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words, *TINY, *rows(*ROWS), *places) == 0
    assert "left out: edge.tflite in the figures: BM3D needs the baselines" in capfd.readouterr().err
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "![lung: low dose; RED-CNN, L1; normal dose]" in page


def test_the_numbers_are_those_of_kpn_evaluate(finished, folders):
    stream = simulated_pairs(folders / "test", dose=0.25, seed=0, every=1, note=pytest.fail)
    means = evaluate({}, stream.pairs, ("soft",), data_name="").rows[0].means
    psnr, ssim, rmse, *_ = lines_of((finished / "results.md").read_text(encoding="utf-8"), "Table 1")[
        "low dose"
    ]
    assert psnr.startswith(f"{means['psnr_soft_db']:.2f} [")
    assert ssim.startswith(f"{means['ssim_soft']:.4f} [")
    assert rmse.startswith(f"{means['rmse_hu']:.2f} [")


def test_every_row_names_data_convention_budget_and_command(finished):
    page = (finished / "results.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("| RED-CNN, L1 |") and "kpn" in line)
    _, data, convention, budget, said = line.strip("| ").split(" | ")
    assert data == "normal-dose series at 25 % of the dose, simulated (seed 0)"
    assert convention == "`soft`"
    forward = 2 * 2 * gmac(REDCNN(channels=16), 32, 32)
    assert budget.startswith(
        f"2 steps of 2 patches of 32×32, Adam 0.0001, float32, {forward:.3g} GMAC forward; 3 slices"
    )
    assert re.search(r"; \d+ min; on (.+)", budget)[1] == device_name()
    folders = "--test TEST --train TRAIN --validation VALIDATION --phantom PHANTOM --dose DOSE"
    assert said == f"`kpn benchmark {folders} --steps 2 --batch 2 --patch 32 --row redcnn-l1`"


def test_a_reduced_budget_is_called_reduced_in_the_table(finished):
    found = lines_of((finished / "results.md").read_text(encoding="utf-8"), "Table 1")
    share = 100 * 2 * 2 * 32**2 / (6000 * 128 * 64**2)
    assert found["RED-CNN, L1"][3] == f"{share:.3g} % (reduced)"
    network = REDCNN(channels=16)
    assert found["RED-CNN, L1"][4:6] == [f"{network.count_params():,}", f"{gmac(network):.1f}"]


def test_all_networks_of_a_seed_get_the_same_steps_and_the_same_patches(finished):
    runs = [json.loads(path.read_text()) for path in (finished / "runs").glob("trainings/*/run.json")]
    assert sorted(run["network"]["class"] for run in runs) == ["REDCNN", "StructKPN"]
    assert all(run["pairs"] == runs[0]["pairs"] for run in runs)
    assert {run["config"]["steps"] for run in runs} == {2}


def test_what_is_finished_is_not_done_again(finished, words, monkeypatch, tmp_path):
    monkeypatch.setattr(trainings, "train", None)
    monkeypatch.setattr(rows_module, "evaluate", None)
    monkeypatch.setattr(quality, "of_torso", None)
    monkeypatch.setattr(dose_rows, "measure_noise", None)
    places = ("--runs", finished / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words, *TINY, *rows(*ROWS), *places) == 0
    assert (tmp_path / "results.md").read_text() == (finished / "results.md").read_text()


def test_another_budget_is_not_taken_for_the_finished_one(finished, words, tmp_path):
    places = ("--runs", finished / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words, "--steps", "3", *TINY[2:], *rows("low-dose"), *places) == 0
    found = lines_of((tmp_path / "results.md").read_text(encoding="utf-8"), "Table 1")
    assert found["RED-CNN, L1"][0] == "not run"
    assert found["low dose"][0] != "not run"


def test_an_interrupted_call_goes_on_where_it_stopped(words, tmp_path, monkeypatch, capfd):
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    call = ("benchmark", *words, *TINY, *rows("low-dose", "edge-k21-l1"), *places)
    draw = pairs.SimulatedPairs.__getitem__

    def interrupted(self, index):
        if index == 1:
            raise KeyboardInterrupt
        return draw(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(pairs.SimulatedPairs, "__getitem__", interrupted)
        patch.setattr("kpn_tf.training.loop.SAVE_SECONDS", 0)
        assert kpn(*call) == 130
    assert not (tmp_path / "results.md").exists()
    (kept,) = (
        path
        for path in (tmp_path / "runs" / "rows").iterdir()
        if path.name.startswith("low-dose-") and json.loads(path.read_text())["key"].get("simulated")
    )
    before, drawn = kept.stat().st_mtime_ns, []
    with monkeypatch.context() as patch:
        patch.setattr(pairs.SimulatedPairs, "__getitem__", lambda self, i: drawn.append(i) or draw(self, i))
        assert kpn(*call) == 0
    assert drawn == [1]  # Step 0 was saved.
    assert kept.stat().st_mtime_ns == before
    page = (tmp_path / "results.md").read_text()
    assert "not run" not in lines_of(page, "Table 2")["low dose"]
    # Nothing else of the first table is finished, so neither it nor the pictures of its methods are shown.
    assert "Table 1" not in page
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["results_fig2.png"]


def test_a_row_that_fails_is_named_and_the_others_are_done(words, tmp_path, monkeypatch, capfd):
    def denoiser(method, network=None):
        if method.kind == "ksvd":
            return lambda slice_hu: slice_hu[1:]
        raise ImportError("BM3D needs the baselines extra: in a checkout, pip install '.[baselines]'")

    monkeypatch.setattr(rows_module, "denoiser", denoiser)
    monkeypatch.setattr(rows_module.Benchmark, "_cost", lambda self, method: None)
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words, *TINY, *rows("ksvd", "bm3d"), *places) == 1
    err = capfd.readouterr().err
    assert "failed: ksvd: Expected a slice of shape (96, 128) from denoiser 'ksvd' on slice" in err
    assert "left out: bm3d: BM3D needs the baselines extra: in a checkout, pip install '.[baselines]'" in err
    assert (tmp_path / "results.md").exists()


def test_without_training_data_only_what_needs_none_is_done(words, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(rows_module.Benchmark, "_cost", lambda self, method: None)
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert kpn("benchmark", *words[4:], *rows("low-dose", "redcnn-l1"), *places) == 0
    complaint = "left out: redcnn-l1: no training data given, and no weights come with the package"
    assert complaint in capfd.readouterr().err
    assert lines_of((tmp_path / "results.md").read_text(), "Table 1")["RED-CNN, L1"][0] == "not run"


@pytest.mark.parametrize(
    "given", [slice(None), slice(4, None)], ids=["the same training asked for", "no data"]
)
def test_weights_that_come_with_the_package_are_not_trained_again(
    finished, words, tmp_path, monkeypatch, given
):
    ship.take(finished / "runs", "redcnn-l1", tmp_path / "weights")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(trainings, "train", None)
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    budget = TINY if given == slice(None) else ()
    assert kpn("benchmark", *words[given], *budget, *rows("redcnn-l1"), *places) == 0
    before, after = (
        lines_of((folder / "results.md").read_text(encoding="utf-8"), "Table 1")["RED-CNN, L1"]
        for folder in (finished, tmp_path)
    )
    assert float(after[0].split()[0]) == pytest.approx(float(before[0].split()[0]), abs=0.011)
    assert after[3:] == before[3:]


def test_weights_of_another_budget_are_not_taken_for_the_training_asked_for(
    finished, words, tmp_path, monkeypatch, capfd
):
    ship.take(finished / "runs", "redcnn-l1", tmp_path / "weights")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")

    def refused(*given, **named):
        raise TrainingDivergedError("another training")

    monkeypatch.setattr(trainings, "train", refused)
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words, "--steps", "3", *TINY[2:], *rows("redcnn-l1"), *places) == 1
    assert "failed: redcnn-l1: another training" in capfd.readouterr().err


@pytest.fixture(scope="module")
def without_data(tmp_path_factory, written_phantom_twin, written_nih_twin, written_dose_twin):
    """A call that names no data: its folder. The twins, which have their own tests, are copied."""
    folder = tmp_path_factory.mktemp("twin")
    places = ("--runs", folder / "runs", "--output", folder / "results.md")

    def phantom_twin(place):
        shutil.copytree(written_phantom_twin, place, dirs_exist_ok=True)

    def nih_twin(place):
        shutil.copytree(written_nih_twin, place, dirs_exist_ok=True)

    def dose_twin(place):
        shutil.copytree(written_dose_twin, place, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        for twin in (phantom_twin, nih_twin, dose_twin):
            patch.setattr(f"kpn_tf.datasets.{twin.__name__}", twin)
        assert kpn("benchmark", *rows("low-dose"), *places) == 0
    return folder


@pytest.mark.slow
def test_without_any_data_a_synthetic_twin_is_used_and_called_so(without_data):
    page = (without_data / "results.md").read_text(encoding="utf-8")
    twin = "digital torso, twin of the NIH protocol, test part: L906, L907"
    assert re.search(
        rf"\*\*Data\*\*: {twin} \(`[0-9a-f]{{12}}` names its files\); 6 slices of 2 patients", page
    )
    assert benchmark_data.TWIN_REMARK in page


@pytest.mark.slow
def test_the_twins_are_written_once(without_data):
    files = [path for path in (without_data / "runs" / "twins").rglob("*") if path.is_file()]
    before = [path.stat().st_mtime_ns for path in files]
    places = ("--runs", without_data / "runs", "--output", without_data / "again.md")
    assert kpn("benchmark", *rows("low-dose"), *places) == 0
    assert [path.stat().st_mtime_ns for path in files] == before


def test_of_two_calls_at_a_time_the_second_takes_the_twin_that_the_first_wrote(
    folders, words, tmp_path, monkeypatch
):
    twin = tmp_path / "runs" / "twins" / "phantom_twin"

    def phantom_twin(place):
        """Writes it, and while it does another call finishes."""
        shutil.copytree(folders / "phantom" / "080kV_150mA", place / "080kV_150mA")
        shutil.copytree(folders / "phantom", twin)

    monkeypatch.setattr("kpn_tf.datasets.phantom_twin", phantom_twin)
    places = ("--dose", folders / "dose", "--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words[4:6], *rows("low-dose"), *places) == 0
    assert [path.name for path in twin.parent.iterdir()] == ["phantom_twin"]
    assert len(list(twin.iterdir())) == 3


@pytest.mark.slow
def test_by_the_nih_protocol_no_patient_both_trains_and_tests(without_data):
    data = benchmark_data.NihData(without_data / "runs" / "twins" / "nih_twin", note=pytest.fail)
    assert {pair.patient for pair in data.test} == {"L906", "L907"}
    batches = data.batches(Budget(steps=2, batch=3, patch=32), 2, seed=1)
    assert {pair.patient for pair in batches.pairs} == {"L901", "L902", "L903", "L904", "L905"}
    assert data.validation == ()
    assert batches[0][0].shape == (3, 32, 32, 1)


def noise_of(page):
    """Noise SD by row of the section on scans that are not aligned, and the rest of the section."""
    section = page.split("## Low and normal dose, not aligned")[1]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {name: noise_hu for name, _, noise_hu, *_ in cells[1:]}, section


def test_noise_before_and_after_is_that_of_the_protocol(finished, folders):
    page = (finished / "results.md").read_text(encoding="utf-8")
    found, section = noise_of(page)
    stream = dose(folders / "dose", note=pytest.fail)
    doses = measure_noise({}, stream.unpaired, data_name="").rows
    assert list(found) == [
        "low dose",
        "RED-CNN, L1",
        "StructKPN edge, the weights that are shipped",
        "normal dose",
    ]
    for row in doses:
        assert found[row.name] == f"{row.noise_std_hu:.1f}"
    assert float(found["StructKPN edge, the weights that are shipped"]) < float(found["low dose"])
    assert "**DOSE: low and normal dose of the same patients, not aligned**: 1 patients." in section


def test_pictures_of_patients_stay_with_the_runs(finished):
    names = {path.name for path in (finished / "runs" / "pictures").iterdir()}
    assert names == {"scan1_soft.png", "scan1_lung.png"}
    page = (finished / "results.md").read_text(encoding="utf-8")
    assert "scan1" not in page
    assert "are in `pictures` in the folder of the runs" in page


def test_pictures_of_the_twin_are_on_the_page(finished, words, folders, tmp_path, monkeypatch):
    def twin(place):
        shutil.copytree(folders / "dose", place, dirs_exist_ok=True)

    monkeypatch.setattr("kpn_tf.datasets.dose_twin", twin)
    runs = shutil.copytree(finished / "runs", tmp_path / "runs")
    places = ("--runs", runs, "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words[:-2], *TINY, *rows("low-dose"), *places) == 0
    _, section = noise_of((tmp_path / "results.md").read_text(encoding="utf-8"))
    assert "**digital torso, twin of DOSE:" in section
    linked = re.findall(r"\(images/(\S+)\)", section)
    assert linked == [f"results_dose_{name}" for name in ("noise.svg", "soft.png", "lung.png")]
    assert all((tmp_path / "images" / name).is_file() for name in linked)


def test_kept_noise_is_json_that_others_can_read(finished):
    def refused(constant):
        raise AssertionError(f"{constant} is no JSON")

    paths = list((finished / "runs" / "rows").glob("dose-*.json"))
    # `edge-k21-l1` is in no table in full.
    assert len(paths) == len(ROWS) - 1
    kept = [json.loads(path.read_text(), parse_constant=refused) for path in paths]
    # The twin's pixels of 0.9 mm end at 0.56 per mm.
    assert all(row["spectrum"][-1] is None for one in kept for row in one["result"]["rows"])


def test_a_scan_that_cannot_be_read_is_missing_in_the_noise(finished, words, folders, tmp_path, capfd):
    shutil.copytree(folders / "dose", tmp_path / "dose")
    path = sorted((tmp_path / "dose" / "low" / "1").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-700])
    runs = shutil.copytree(finished / "runs", tmp_path / "runs")
    places = ("--runs", runs, "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words[:-1], tmp_path / "dose", *TINY, *rows("low-dose"), *places) == 1
    assert "of the DOSE: low and normal dose" in capfd.readouterr().err
    _, section = noise_of((tmp_path / "results.md").read_text(encoding="utf-8"))
    assert "**1 files or slices could not be read and are missing.**" in section


def assert_nobody_is_named(written, folders):
    """Neither a patient nor a folder is in a file of a finished call."""
    files = [path for path in written.rglob("*") if path.is_file() and "twins" not in path.parts]
    assert {"results.md", "run.json", "best.keras"} <= {path.name for path in files}
    for content in (path.read_bytes() for path in files):
        for secret in ("Secret", "ID-0815", "ID-4711", "ID-4712", str(folders), str(written)):
            assert secret.encode() not in content


def test_neither_patients_nor_folders_are_named(finished, folders):
    assert_nobody_is_named(finished, folders)


@pytest.mark.slow
def test_the_command_as_a_process_measures_time_and_names_nobody(words, folders, tmp_path):
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    call = [sys.executable, "-m", "baselines.benchmark", *words, *TINY, *rows("edge-k21-l1"), *places]
    subprocess.run(list(map(str, call)), cwd=Path(__file__).parents[1], check=True, capture_output=True)
    assert_nobody_is_named(tmp_path, folders)


def test_a_slice_that_cannot_be_read_is_missing_until_it_is_mended(
    words, folders, tmp_path, monkeypatch, capfd
):
    shutil.copytree(folders / "test", tmp_path / "test")
    path = sorted((tmp_path / "test").iterdir())[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-700])
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    call = ("benchmark", "--test", tmp_path / "test", *words[6:], *rows("low-dose"), *places)
    missing = "**1 files or slices could not be read and are missing.**"
    for _ in range(2):
        assert kpn(*call) == 1
        assert "could not be read: its rows are of the others" in capfd.readouterr().err
        assert missing in (tmp_path / "results.md").read_text(encoding="utf-8")
    path.write_bytes(whole)
    assert kpn(*call) == 0
    assert missing not in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_pixels_that_changed_are_other_data(words, folders, tmp_path):
    shutil.copytree(folders / "test", tmp_path / "test")
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    call = ("benchmark", "--test", tmp_path / "test", *words[6:], *rows("low-dose"), *places)
    found = []
    for _ in range(2):
        assert kpn(*call) == 0
        found.append(lines_of((tmp_path / "results.md").read_text(), "Table 1")["low dose"][2])
        path = sorted((tmp_path / "test").iterdir())[1]
        path.write_bytes(path.read_bytes()[:-2000] + bytes(2000))
    assert found[0] != found[1]


def test_lack_of_memory_in_one_row_leaves_the_others(words, tmp_path, monkeypatch, capfd):
    def exhausted(*given, **named):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(trainings, "train", exhausted)
    places = ("--runs", tmp_path / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words, *TINY, *rows("edge-k21-l1", "low-dose"), *places) == 1
    assert "failed: edge-k21-l1: OOM when allocating tensor" in capfd.readouterr().err
    assert lines_of((tmp_path / "results.md").read_text(), "Table 1")["low dose"][0] != "not run"


def test_a_patient_in_two_folders_is_refused(words, folders, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ["--train", folders / "train", "--validation", folders / "test", "--test", folders / "test"]
    assert kpn("benchmark", *words) == 2
    assert "received one in both --validation and --test" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_of_the_torso_alone(finished, words, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_data, "simulated_pairs", None)
    places = ("--runs", finished / "runs", "--output", tmp_path / "results.md")
    assert kpn("benchmark", *words, *TINY, *rows("low-dose"), *places) == 0
    for path in (finished / "images").iterdir():
        assert (tmp_path / "images" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--nih", "DATA"], "either --nih FOLDER, or --test FOLDER with --train and --validation"),
        (["--steps", "2", "--gmac", "5"], "expected either --steps or --gmac"),
        (["--row", "redcnn"], "expected a row among low-dose, ksvd, bm3d, wavresnet-l1, redcnn-l1,"),
        (["--patch", "21"], "expected patches of at least 27 pixels for kernels of that side, received 21"),
        (["--output", "results.html"], "expected a name that ends in .md, received results.html"),
        (["--phantom", "absent"], "expected a folder, received absent, which does not exist"),
        (["--dose", "absent"], "expected a folder, received absent/low, which does not exist"),
        (["--gmac", "0"], "argument --gmac: expected a number above 0"),
        (["--seeds", "0"], "argument --seeds: expected a whole number from 1 on"),
    ],
)
def test_a_wrong_call_is_status_two_and_says_why(
    words, folders, tmp_path, monkeypatch, capfd, more, complaint
):
    monkeypatch.chdir(tmp_path)
    more = [str(folders) if word == "DATA" else word for word in more]
    assert kpn("benchmark", *words, *more) == 2
    assert complaint in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("absent", ["test", "validation"])
def test_training_folders_come_together(words, tmp_path, monkeypatch, capfd, absent):
    monkeypatch.chdir(tmp_path)
    at = words.index(f"--{absent}")
    assert kpn("benchmark", *words[:at], *words[at + 2 :]) == 2
    assert "expected --train, --validation and --test together" in capfd.readouterr().err


def test_the_command_of_a_row_has_its_options_and_no_folder():
    config = BenchmarkConfig(nih=Path("/patients/Smith"), gmac=6.2e6, seeds=3, runs=Path("elsewhere"))
    assert command(config) == "kpn benchmark --nih NIH --gmac 6200000.0 --seeds 3"


def test_every_option_is_in_the_guide():
    guide = GUIDE.read_text(encoding="utf-8")
    for option in dataclasses.fields(BenchmarkConfig):
        assert f"`--{option.name.replace('_', '-')} " in guide, option.name


def test_the_module_is_the_same_program_and_its_help_needs_no_extra():
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "baselines.benchmark", "--help"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: kpn benchmark" in run.stdout
    assert "--gmac GMAC" in run.stdout
    assert not re.search(r"\| +(tensorflow|keras|matplotlib)$", run.stderr, re.MULTILINE)
