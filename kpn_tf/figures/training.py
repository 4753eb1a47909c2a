"""Training curves from run folders."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kpn_tf.figures.style import in_style, laid_out, line_style
from kpn_tf.training import TrainingConfig, learning_rate_schedule
from kpn_tf.training.run_folder import read_run

_LABELS = {
    "loss": "training loss",
    "validation_psnr_soft": "validation\nPSNR soft (dB)",
    "validation_ssim_soft": "validation\nSSIM soft",
}

# Pieces that the curve of the learning rate is drawn of.
_PIECES = 100

# Around the checkpoint that was chosen.
_RING = {"linestyle": "none", "marker": "o", "markersize": 13, "fillstyle": "none", "clip_on": False}


@in_style
def training_figure(*folders):
    """Training loss, validation and learning rate over the steps of one or more runs.

    The chosen checkpoint, whose averaged weights are `best.keras`, is ringed. Runs may still go on, or have been
    killed. The training loss is the mean since the checkpoint before; those of different losses cannot be compared.

    Args:
        folders: Run folders, as `kpn train` and `kpn_tf.training.train` keep them.

    Returns:
        `matplotlib.figure.Figure`, to be written with `kpn_tf.figures.write`.

    Raises:
        ValueError: If there is none, one is no run folder or has no checkpoint yet, or its log is damaged before its
            last line.
    """
    if not folders:
        raise ValueError("Expected one run folder or more. Received: none")
    runs = [read_run(folder) for folder in folders]
    names = [run.name for run in runs]
    # Folders of one name are told apart by their paths.
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    logged = {key for run in runs for checkpoint in run.checkpoints for key in checkpoint}
    keys = ["loss", *sorted(logged - {"step", "loss", "seconds"})]
    figure = Figure(figsize=(7.5, 1.9 * (len(keys) + 1) + 0.2 * len(runs)), layout="constrained")
    *panels, rate = figure.subplots(len(keys) + 1, sharex=True)
    for number, run in enumerate(runs):
        look = line_style(number)
        for axes, key in zip(panels, keys, strict=True):
            points = [
                (checkpoint["step"], checkpoint[key]) for checkpoint in run.checkpoints if key in checkpoint
            ]
            axes.plot(*np.reshape(points, (-1, 2)).T, markersize=4, **look)
            if key in run.chosen:
                axes.plot(run.chosen["step"], run.chosen[key], color=look["color"], **_RING)
        rate.plot(*_learning_rates(run), markersize=4, markevery=_PIECES // 10, **look)
    for axes, key in zip(panels, keys, strict=True):
        axes.set_ylabel(_LABELS.get(key, key.replace("_", " ")))
    rate.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    for axes in (*panels, rate):
        axes.grid(color="0.9")
    handles = [Line2D([], [], label=label, **line_style(number)) for number, label in enumerate(labels)]
    handles.append(Line2D([], [], label="chosen checkpoint", color="black", **_RING))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return laid_out(figure)


def _learning_rates(run):
    """Steps and the learning rates in them, as far as the run has come."""
    schedule = learning_rate_schedule(TrainingConfig(**run.config))
    last = run.checkpoints[-1]["step"]
    steps = np.linspace(0, last, _PIECES + 1).round()
    # The corner where the warm-up ends.
    steps = np.union1d(steps, min(schedule.warmup_steps, last))
    return steps, [float(schedule(step)) for step in steps]
