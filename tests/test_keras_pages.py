"""The pages for Keras users: their code runs as written, top to bottom, in one folder."""

from pathlib import Path

import keras
import numpy as np

from kpn_tf.metrics import psnr
from tests.test_readme import blocks_of

ROOT = Path(__file__).parents[1]


def run_page(name, folder, monkeypatch):
    """Runs a page's python blocks; returns the names that they define."""
    monkeypatch.chdir(folder)
    page = ROOT / "docs" / name
    names = {"__name__": "__main__"}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, page.name, "exec"), names)
    return names


def test_the_page_for_keras_users_runs(tmp_path, monkeypatch):
    names = run_page("keras.md", tmp_path, monkeypatch)
    assert names["paper"].count_params() == 1_981_763
    assert names["again"].title == "StructKPN-edge"


def test_fine_tuning_runs_and_keeps_the_best(tmp_path, monkeypatch):
    names = run_page("fine_tuning.md", tmp_path, monkeypatch)
    tuned = keras.saving.load_model(tmp_path / "tuned.keras")
    low_hu, normal_hu = names["validation"][0]
    error = np.abs(tuned.predict(low_hu, verbose=0) - normal_hu).mean()
    assert error < np.abs(low_hu - normal_hu).mean()


def test_the_tutorial_runs_and_what_it_exports_is_what_keras_has(tmp_path, monkeypatch, capsys):
    names = run_page("tutorial.md", tmp_path, monkeypatch)
    low_hu, normal_hu = (names[name][0, ..., 0] for name in ("low_hu", "normal_hu"))
    assert names["before"] > psnr(normal_hu, low_hu, convention="soft")
    np.testing.assert_allclose(names["kernels"].sum(axis=(1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(names["here"], names["there"], atol=0.05)
    assert "Keras and LiteRT differ by 0.0" in capsys.readouterr().out
