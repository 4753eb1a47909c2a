"""What a run folder tells of its training: the configuration and the log of its checkpoints."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """A training, finished or not, as its folder tells it.

    Args:
        name: Of the folder.
        config: Dict of the fields of `kpn_tf.training.TrainingConfig`.
        checkpoints: Tuple of dicts with `step`, `loss` (mean since the one before) and what validation gave, by step.
    """

    name: str
    config: dict
    checkpoints: tuple

    @property
    def chosen(self):
        """The checkpoint whose weights are `best.keras`: of equal ones the first."""
        return max(self.checkpoints, key=score)


def read_run(folder):
    """Reads a run folder; the training may still go on.

    Args:
        folder: Of the run, as `kpn train` and `kpn_tf.training.train` keep it.

    Returns:
        `Run`.

    Raises:
        ValueError: If it is no run folder, has no checkpoint yet, or its log is damaged before its last line.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise ValueError(f"Expected a run folder of kpn train. Received: {folder}, which has no run.json")
    config = json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]
    log = folder / "log.jsonl"
    checkpoints = read_log(log) if log.exists() else ()
    if not checkpoints:
        raise ValueError(
            f"Expected a run with a checkpoint. Received: {folder}, which has none yet; the first comes after "
            f"{min(config['validate_every'], config['steps'])} steps"
        )
    return Run(folder.resolve().name, config, checkpoints)


def read_log(path):
    """Reads the log of a run; a run that was killed and went on may have logged a step twice, or half.

    Args:
        path: Of `log.jsonl`.

    Returns:
        Tuple of dicts by step; of two for one step the later.

    Raises:
        ValueError: If a line is damaged and it is not the last.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    checkpoints = {}
    for number, line in enumerate(lines, start=1):
        try:
            # A run that goes on after half a line writes its next one behind it.
            entry = json.loads(line[max(0, line.rfind("{")) :])
            checkpoints[entry["step"]] = entry
        except (ValueError, TypeError, KeyError):
            if number < len(lines):
                raise ValueError(
                    f"Expected a checkpoint in each line. Received: {path}, line {number}: {line!r}; take that line out"
                ) from None
    return tuple(checkpoints[step] for step in sorted(checkpoints))


def score(checkpoint):
    """What chooses among checkpoints, more being better: the validation, without one the loss.

    Args:
        checkpoint: Dict of a line of the log.

    Returns:
        The score of a validation that has one (`kpn_tf.training.data.volume_validation`), else PSNR in dB,
        convention `soft`, or the loss with its sign turned.
    """
    psnr_db = checkpoint.get("validation_psnr_soft", -checkpoint["loss"])
    return checkpoint.get("validation_score", psnr_db)
