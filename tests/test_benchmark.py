"""What the benchmark's tables, budgets, data and drawings promise."""

from types import SimpleNamespace

import numpy as np
import pytest

from baselines.benchmark import data as benchmark_data
from baselines.benchmark import quality_tables, results_page
from baselines.benchmark.budget import Budget, share_of_papers
from baselines.benchmark.data import SimulatedData, folder_sha256
from baselines.benchmark.methods import LEARNING_RATES, identity, loss_of, new_network
from baselines.benchmark.resampling import difference_interval, mean_interval
from baselines.benchmark.runs import Runs
from baselines.benchmark.tables import EQUAL_REDCNN, TABLES, Contrast, Method, Table, methods, seeds_of
from kpn_tf.evaluation import Results
from kpn_tf.networks.cost import gmac
from tests.noisy_torso import noisy_volume, write_torso

L1, PUBLISHED = EQUAL_REDCNN["l1"], EQUAL_REDCNN["published"]


def test_a_method_has_one_name_and_a_name_one_method():
    named = methods(TABLES)
    assert len({method.name for method in named}) == len(named)
    assert sum(method.is_trained for method in named) == 15


def test_a_method_published_in_two_tables_has_the_same_numbers_in_both():
    published = {}
    for row in (row for table in TABLES for row in table.rows if row.published):
        assert published.setdefault(row.method, row.published) == row.published


def test_the_tables_are_those_of_the_paper():
    # Xu et al., ICIP 2021: six methods, two of them with the other loss of Table 2 as well; two networks by two losses;
    # five sides.
    assert [sum(row.published is not None for row in table.rows) for table in TABLES] == [6 + 2, 4, 5]
    assert [row.method.kernel_size for row in TABLES[2].rows] == [15, 19, 21, 23, 27]


def test_every_trained_method_has_a_network_a_loss_and_a_rate():
    for method in filter(lambda method: method.is_trained, methods(TABLES)):
        assert LEARNING_RATES[method.kind] > 0
        assert callable(loss_of(method))
    # What Table 3's sides differ by: 32 learnt filters beside a trunk of one size.
    small, large = (new_network(TABLES[2].rows[i].method).count_params() for i in (0, 4))
    assert large - small == 32 * (27**2 - 15**2)


def test_the_networks_of_the_second_table_cost_the_same():
    methods_of = {row.method.kind: row.method for row in TABLES[1].rows}
    redcnn, edge = (gmac(new_network(methods_of[kind])) for kind in ("redcnn16", "edge"))
    assert edge == pytest.approx(redcnn, rel=0.1)


def test_the_published_loss_and_this_projects_differ_outside_the_window_alone():
    published, ours = (loss_of(Method("edge", loss, 21)) for loss in ("published", "structure"))
    rng = np.random.default_rng(1)
    inside_hu, other_hu = rng.uniform(-100, 200, (2, 1, 16, 16, 1)).astype("float32")
    assert float(published(inside_hu, other_hu)) == pytest.approx(float(ours(inside_hu, other_hu)), abs=1e-5)
    # Lung and bone: the window sees no difference there.
    assert float(published(inside_hu * 0 - 700, inside_hu * 0 - 800)) < float(
        ours(inside_hu * 0 - 700, inside_hu * 0 - 800)
    )


def test_another_factor_of_the_noise_is_another_method(monkeypatch):
    before = identity(Method("bm3d"))
    monkeypatch.setattr("baselines.bm3d.FACTOR", 2.5)
    assert identity(Method("bm3d")) == {**before, "factor": 2.5} != before


def test_seeds_are_for_the_table_that_asks_for_them():
    counts = {method.name: len(seeds_of(method, TABLES, 3)) for method in methods(TABLES)}
    assert {name for name, count in counts.items() if count == 3} == {
        f"{network}-{loss}"
        for network in ("redcnn16", "edge-k21")
        for loss in ("l1", "published", "structure")
    }


def test_the_papers_recipe_is_all_of_it_and_what_is_shorter_a_share():
    assert share_of_papers(6000, 128, 64) == 1
    assert share_of_papers(3000, 64, 32) == pytest.approx(1 / 16)


def test_equal_arithmetic_is_more_steps_for_the_smaller_network():
    budget = Budget(gmac=1000.0, batch=4)
    assert budget.steps_for(1.0) == 250
    assert budget.steps_for(8.0) == 31
    assert budget.steps_for(1e9) == 1


@pytest.mark.parametrize("wrong", [{}, {"steps": 5, "gmac": 5.0}, {"steps": 0}, {"steps": 5, "batch": 0}])
def test_a_budget_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="Expected either steps or gmac, and positive numbers"):
        Budget(**wrong)


def test_a_result_is_recalled_for_its_own_key_alone(tmp_path):
    runs = Runs(tmp_path / "runs")
    assert runs.recall("a", {"x": 1}) is None
    assert runs.keep("a", {"x": 1}, {"pair": (1, 2)}) == {"pair": [1, 2]}
    assert runs.recall("a", {"x": 1}) == {"pair": [1, 2]}
    assert runs.recall("a", {"x": 2}) is runs.recall("b", {"x": 1}) is None
    assert [path.suffix for path in (tmp_path / "runs" / "rows").iterdir()] == [".json"]


def test_a_folder_is_known_by_its_content_wherever_it_lies(tmp_path):
    for name in ("one", "two"):
        write_torso(tmp_path / name)
    same = folder_sha256(tmp_path / "one")
    assert folder_sha256(tmp_path / "two") == same
    assert folder_sha256(write_torso(tmp_path / "three", noisy_volume(2))[0].parent) != same
    (tmp_path / "two" / "0003.dcm").unlink()
    assert folder_sha256(tmp_path / "two") != same


def test_simulated_data_trains_as_kpn_train_does(tmp_path, monkeypatch):
    for name in ("train", "validation", "test"):
        write_torso(tmp_path / name)
    data = SimulatedData(
        tmp_path / "test", tmp_path / "train", tmp_path / "validation", patch=32, note=pytest.fail
    )
    batches = data.batches(Budget(steps=2, batch=3, patch=32), 2, seed=1)
    assert batches.describe()["dose"] == 0.25
    assert len(data.test) == 3
    assert len(data.validation) == 4  # two slices, at two doses
    monkeypatch.setattr(benchmark_data, "validation_folder", lambda folder, rng, note: [])
    with pytest.raises(ValueError, match="Expected a normal-dose series of a validation patient"):
        _ = SimulatedData(tmp_path, tmp_path, tmp_path, note=pytest.fail).validation


def finished_row(psnr_db, name):
    records = [
        {
            "denoiser": name,
            "patient": "P",
            "slice": str(i),
            "psnr_soft_db": value,
            "ssim_soft": value / 40,
            "rmse_hu": 40 - value,
            "seconds": 1.0,
        }
        for i, value in enumerate(psnr_db)
    ]
    return {"convention": "soft", "records": records}


def test_a_difference_is_taken_slice_by_slice_between_means_over_seeds():
    rows = {
        (L1, 0): finished_row([30.0, 20.0], "redcnn16-l1"),
        (L1, 1): finished_row([31.0, 21.0], "redcnn16-l1"),
        (PUBLISHED, 0): finished_row([30.7, 20.8], "redcnn16-published"),
    }
    means = results_page.mean_over_seeds([rows[L1, 0], rows[L1, 1]], "soft")
    assert [record["psnr_soft_db"] for record in means] == [30.5, 20.5]
    table = Table(
        "t", (), contrasts=(Contrast("L_S minus L1", PUBLISHED, L1), Contrast("none", L1, Method("edge")))
    )
    stub = SimpleNamespace(
        finished=lambda method: [row for (of, _), row in rows.items() if of == method],
        quality=lambda method: [],
    )
    # Slices differ by 10 dB, the methods by 0.2 and 0.3 on each, their trainings by half a dB to either side.
    *_, line, absent = quality_tables.difference_lines(table, stub, "soft")
    torso = " not run |" * 4
    assert line == (
        "| L_S minus L1 (1 and 2 trainings) | +0.25 [-0.30, +0.80] | +0.0063 [-0.0075, +0.0200] |" + torso
    )
    assert absent == "| none | not run | not run |" + torso


def test_a_training_of_version_0_1_is_told_without_its_minutes_and_device():
    training = {
        "steps": 240,
        "learning_rate": 3e-4,
        "batch": 4,
        "patch": 64,
        "precision": "float32",
        "gmac": 1234.5,
        "slices": 290,
        "normal_sha256": "e0841d4cbad97408",
    }
    told = "240 steps of 4 patches of 64×64, Adam 0.0003, float32, 1.23e+03 GMAC forward; 290 slices"
    told += " (sha256 e0841d4cbad9)"
    assert results_page._budget_text([{"training": training}]) == told
    training |= {"seconds": 7135.0, "device": "AMD EPYC"}
    assert results_page._budget_text([{"training": training}]) == f"{told}; 119 min; on AMD EPYC"


def test_the_interval_of_one_training_is_that_of_kpn_evaluate():
    records = finished_row([31.0, 20.0, 25.5, 27.25, 33.0], "edge")["records"]
    row, _ = Results("", ("soft",), tuple(records), float("nan")).rows
    found = mean_interval([[record["psnr_soft_db"] for record in records]])
    assert found == (row.means["psnr_soft_db"], *row.intervals["psnr_soft_db"])


def test_intervals_know_of_seeds_and_of_samples():
    rng = np.random.default_rng(5)
    seeds, samples = rng.normal(0, 1, (12, 1)), rng.normal(0, 3, (1, 60))
    values = 50 + seeds + samples
    interval = mean_interval(values)
    # Of a crossed design: the variance of the mean is that of the seeds over 12 and that of the samples over 60.
    width = 2 * 1.96 * np.sqrt(seeds.var() / 12 + samples.var() / 60)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(width, rel=0.1)
    # What all slices share is in no difference; what a training shares with none is.
    difference = difference_interval(values[:6] + 2, values[6:])
    by_hand = 2 * 1.96 * np.sqrt(seeds[:6].var() / 6 + seeds[6:].var() / 6)
    assert difference.high - difference.low == pytest.approx(by_hand, rel=0.1)


def test_a_sample_without_a_value_is_left_out_and_none_at_all_is_no_number():
    assert mean_interval([[1.0, np.nan, 3.0], [1.0, 7.0, 3.0]]).value == 2.0
    assert np.isnan(mean_interval([[np.nan]]).value)
