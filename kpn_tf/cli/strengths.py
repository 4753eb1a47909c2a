"""How strong: options of the commands that derive series, and the checks of what they say."""

import dataclasses
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf.cli import kinds
from kpn_tf.cli.network_in_use import NetworkInUse
from kpn_tf.console import Notes, say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strengths(NetworkInUse):
    """Which network, and which share of its correction."""

    strength: tuple[float, ...] = field(
        default=(),
        metadata={
            "help": "share of the correction, 0 to 1 (default 1); of several, a derived series for each",
            "kind": kinds.fraction,
        },
    )
    noise: float | None = field(
        default=None,
        metadata={
            "help": "instead: noise in HU wanted in flat soft tissue; the strength is found for each series",
            "kind": kinds.positive,
        },
    )
    like: Path | None = field(
        default=None,
        metadata={"help": "instead: folder of one series, of routine dose, whose noise is wanted"},
    )


def wrong_strengths(config):
    """What is wrong with the options, or `None`."""
    if sum((bool(config.strength), config.noise is not None, config.like is not None)) > 1:
        return "expected one of --strength, --noise and --like"
    if len(set(config.strength)) < len(config.strength):
        return f"expected every strength once, received {' '.join(f'{one:g}' for one in config.strength)}"
    if config.like is not None and not config.like.exists():
        return f"expected a CT file or a folder, received {config.like}, which does not exist"
    return None


def how_strong(name, config):
    """What `kpn_tf.batch.denoise` is to be told, as keywords: the strengths, or the noise that is wanted.

    Args:
        name: Of the command, for the line about the series of `--like`.
        config: A `Strengths`.

    Raises:
        ValueError: If the noise of `--like` cannot be measured.
    """
    if config.noise is None and config.like is None:
        return {"strengths": config.strength or (1.0,)}
    if config.noise is not None:
        return {"noise_hu": config.noise}
    from kpn_tf.dose.routine import routine_noise
    from kpn_tf.evaluation.stream import found_series

    routine = routine_noise(found_series(config.like, Notes()))
    say(f"kpn {name}: like {routine.text}", sys.stderr)
    return {"noise_hu": routine.noise_hu}
