"""What a run folder tells, and what the training curves show of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import kpn_tf
from kpn_tf.figures import training_figure, write
from kpn_tf.training import TrainingConfig, make_optimizer
from kpn_tf.training.run_folder import read_log, read_run
from tests.legible import assert_legible

WEIGHTS = Path(kpn_tf.__file__).parent / "weights"
CONFIG = {"steps": 50, "learning_rate": 0.002, "validate_every": 10}
# The best is neither the first nor the last, nor that of the least loss.
PSNR_DB = (30.0, 31.5, 33.25, 32.5)


def checkpoint(step, loss, psnr_db=None):
    told = {"step": step, "loss": loss}
    return told if psnr_db is None else {**told, "validation_psnr_soft": psnr_db}


def checkpoints(psnr_db=PSNR_DB):
    return [checkpoint(10 * i, 1 / i, db) for i, db in enumerate(psnr_db, start=1)]


def write_run(folder, lines, config=CONFIG):
    """A run folder whose log has these lines: dicts, or what a kill has left of one."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": config}))
    lines = [line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines]
    (folder / "log.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def shipped(tmp_path):
    """The run that made the shipped weights."""
    folder = tmp_path / "edge"
    folder.mkdir()
    shutil.copy(WEIGHTS / "edge_run.json", folder / "run.json")
    shutil.copy(WEIGHTS / "edge_log.jsonl", folder / "log.jsonl")
    return folder


def curves(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 1]


def rings(axes):
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]


def test_the_curves_run_through_the_values_of_the_log(tmp_path):
    loss, psnr, rate = training_figure(write_run(tmp_path / "run", checkpoints())).axes
    assert [axes.get_ylabel().replace("\n", " ") for axes in (loss, psnr, rate)] == [
        "training loss",
        "validation PSNR soft (dB)",
        "learning rate",
    ]
    (drawn,) = curves(loss)
    np.testing.assert_array_equal(drawn.get_xydata(), [[10, 1], [20, 1 / 2], [30, 1 / 3], [40, 1 / 4]])
    (drawn,) = curves(psnr)
    np.testing.assert_array_equal(drawn.get_xydata(), [[10, 30], [20, 31.5], [30, 33.25], [40, 32.5]])
    assert loss.get_xlim() == psnr.get_xlim() == rate.get_xlim()


def test_the_learning_rate_is_the_optimizers_as_far_as_the_run_has_come(tmp_path):
    *_, rate = training_figure(write_run(tmp_path / "run", checkpoints())).axes
    steps, rates = curves(rate)[0].get_data()
    assert (steps[0], steps[-1]) == (0, 40)
    optimizer = make_optimizer(TrainingConfig(**CONFIG))
    for at in (0, 5, 37, 40):
        optimizer.iterations.assign(int(steps[at]))
        assert rates[at] == pytest.approx(float(optimizer.learning_rate), rel=1e-6)
    assert max(rates) == pytest.approx(0.002)


def test_the_chosen_checkpoint_is_ringed_in_every_panel(tmp_path):
    loss, psnr, rate = training_figure(write_run(tmp_path / "run", checkpoints())).axes
    assert (rings(loss), rings(psnr), rings(rate)) == ([(30, 1 / 3)], [(30, 33.25)], [])


def test_without_validation_the_least_loss_chooses(tmp_path):
    lines = [checkpoint(10, 0.5), checkpoint(20, 0.25), checkpoint(30, 0.375)]
    figure = training_figure(write_run(tmp_path / "run", lines))
    assert len(figure.axes) == 2
    assert rings(figure.axes[0]) == [(20, 0.25)]


def test_every_number_of_the_validation_has_a_panel(tmp_path):
    lines = [checkpoint(10, 0.5), {**checkpoint(20, 0.25, 30.0), "validation_rmse_hu": 12.0}]
    figure = training_figure(write_run(tmp_path / "run", lines))
    assert [axes.get_ylabel() for axes in figure.axes][1:3] == [
        "validation\nPSNR soft (dB)",
        "validation rmse hu",
    ]
    assert figure.axes[2].lines[0].get_xydata().tolist() == [[20, 12]]


def test_several_runs_differ_in_colour_and_marker_and_are_named(tmp_path):
    first = write_run(tmp_path / "first", checkpoints())
    second = write_run(tmp_path / "second", checkpoints((31.0, 30.0)))
    figure = training_figure(first, str(second))
    for axes in figure.axes:
        one, other = curves(axes)
        assert one.get_color() != other.get_color()
        assert one.get_marker() != other.get_marker()
    assert rings(figure.axes[1]) == [(30, 33.25), (10, 31.0)]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["first", "second", "chosen checkpoint"]


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    folders = [write_run(tmp_path / seed / "run", checkpoints()) for seed in ("a", "b")]
    (legend,) = training_figure(*folders).legends
    assert [text.get_text() for text in legend.get_texts()][:2] == [str(folder) for folder in folders]


def test_of_a_step_that_was_logged_twice_the_later_line_counts(tmp_path):
    lines = [*checkpoints((30.0, 31.0)), checkpoint(20, 0.5, 31.25), checkpoint(30, 0.25, 31.0)]
    run = read_run(write_run(tmp_path / "run", lines))
    assert [entry["step"] for entry in run.checkpoints] == [10, 20, 30]
    assert run.chosen == checkpoint(20, 0.5, 31.25)


def test_half_a_line_that_a_killed_run_left_is_passed_over(tmp_path):
    whole = json.dumps(checkpoint(30, 0.25))
    for length in range(len(whole)):
        folder = write_run(tmp_path / str(length), [checkpoint(10, 0.5), whole[:length]])
        assert read_log(folder / "log.jsonl") == (checkpoint(10, 0.5),)


def test_what_a_run_wrote_behind_half_a_line_is_read(tmp_path):
    half = json.dumps(checkpoint(20, 0.25))[:17]
    folder = write_run(tmp_path / "run", [checkpoint(10, 0.5), half, *checkpoints()[1:]])
    assert read_log(folder / "log.jsonl") == (checkpoint(10, 0.5), *checkpoints()[1:])


@pytest.mark.parametrize("line", ["\n", "7\n", '{"step": \n', '{"loss": 1}\n'])
def test_damage_before_the_last_line_is_said_with_its_place(line, tmp_path):
    folder = write_run(tmp_path / "run", [checkpoint(10, 0.5), line, checkpoint(30, 0.25)])
    with pytest.raises(ValueError, match=r"a checkpoint in each line. Received: .*log\.jsonl, line 2: "):
        training_figure(folder)


def test_a_folder_that_is_no_run_is_said_in_a_sentence(tmp_path):
    with pytest.raises(
        ValueError, match=r"Expected a run folder of kpn train. Received: \S+, which has no run"
    ):
        training_figure(tmp_path)
    with pytest.raises(ValueError, match=r"has no run\.json"):
        training_figure(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"Expected one run folder or more\. Received: none"):
        training_figure()


def test_a_run_without_a_checkpoint_is_said_in_a_sentence(tmp_path):
    folder = write_run(tmp_path / "run", [])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"which has none yet; the first comes after 10 steps"):
            training_figure(folder)
        (folder / "log.jsonl").unlink(missing_ok=True)


def test_the_run_of_the_shipped_weights_is_drawn_and_can_be_read(shipped, tmp_path):
    figure = training_figure(shipped)
    assert_legible(figure)
    steps, psnr_db = curves(figure.axes[1])[0].get_data()
    assert list(steps) == list(range(1000, 16001, 1000))
    assert rings(figure.axes[1]) == [(steps[np.argmax(psnr_db)], max(psnr_db))]
    write(figure, tmp_path / "a.svg")
    write(figure, tmp_path / "b.svg")
    write(training_figure(shipped), tmp_path / "c.svg")
    assert len({(tmp_path / f"{name}.svg").read_bytes() for name in "abc"}) == 1
