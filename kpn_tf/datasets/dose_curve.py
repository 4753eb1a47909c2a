"""Fig. 5: PSNR over tube current, a curve for every voltage and denoiser."""

import re
from dataclasses import dataclass

from kpn_tf.evaluation import LOW_DOSE


@dataclass(frozen=True, order=True)
class Setting:
    """What a scan was taken with: a point on a dose curve.

    Args:
        tube_voltage_kv: In kV.
        tube_current_ma: In mA.

    Example:

    >>> str(Setting(80, 30)), Setting.named("140 kV, 210 mA")
    ('80 kV, 30 mA', Setting(tube_voltage_kv=140, tube_current_ma=210))
    """

    tube_voltage_kv: int
    tube_current_ma: int

    def __str__(self):
        return f"{self.tube_voltage_kv} kV, {self.tube_current_ma} mA"

    @classmethod
    def named(cls, name):
        """The setting that has this name.

        Raises:
            ValueError: If it names none.
        """
        match = re.fullmatch(r"(\d+) kV, (\d+) mA", name)
        if not match:
            raise ValueError(
                "Expected results of the PHANTOM protocol, whose rows are called like '80 kV, 30 mA'. "
                f"Received: {name!r}"
            )
        return cls(*map(int, match.groups()))


@dataclass(frozen=True)
class DoseCurve:
    """PSNR over tube current: one line of Fig. 5.

    Args:
        denoiser: Whose; "low dose" for what it was given.
        tube_voltage_kv: Of all its points.
        currents_ma: Increasing.
        psnr_db: Mean over the slices at each current.
        intervals_db: 95 % bootstrap interval of each mean.
    """

    denoiser: str
    tube_voltage_kv: int
    currents_ma: tuple[int, ...]
    psnr_db: tuple[float, ...]
    intervals_db: tuple[tuple[float, float], ...]


def dose_curves(results, convention):
    """Turns an evaluation of the PHANTOM protocol into the curves of Fig. 5.

    Args:
        results: `kpn_tf.evaluation.Results` over the pairs of `phantom`.
        convention: Which of its conventions the PSNR is of.

    Returns:
        List of `DoseCurve`: for each voltage the low dose and then every denoiser.

    Raises:
        ValueError: If the results are of other pairs or lack the convention.
    """
    if convention not in results.conventions:
        raise ValueError(
            f"Expected a convention of the results, {results.conventions}. Received: {convention!r}"
        )
    metric = f"psnr_{convention}_db"
    points = {}
    for row in results.rows:
        if row.patient is not None:
            setting = Setting.named(row.patient)
            points.setdefault((setting.tube_voltage_kv, row.denoiser), []).append(
                (setting.tube_current_ma, row.means[metric], row.intervals[metric])
            )
    return [
        DoseCurve(denoiser, voltage_kv, *zip(*sorted(of_one), strict=True))
        for (voltage_kv, denoiser), of_one in sorted(
            points.items(), key=lambda item: (item[0][0], item[0][1] != LOW_DOSE)
        )
    ]
