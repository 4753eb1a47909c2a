"""What a denoiser does to a protocol over strengths: to its own slices, and to a torso with their noise."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from kpn_tf.console import bar
from kpn_tf.denoiser.strength import AtStrength, Remembering
from kpn_tf.dose.series_noise import NoiseMeter, NoNoiseError, SeriesNoise
from kpn_tf.evaluation.stream import chosen_pairs
from kpn_tf.metrics.noise_of_blend import NoiseOfBlend
from kpn_tf.phantom import LESIONS
from kpn_tf.quality import Report, measure_phantom, measure_series, torso_stacks

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)

# Of a protocol, evenly spaced over its series.
MEASURED_SLICES = 24

# Where headers do not say how thick slices are.
_USUAL_MM = 3.0

# Of the demonstration's lesions, those that its middle slices show, all cut through their middle; one of high contrast,
# whose edge shows how sharp the image is.
_EDGE_HU = 100.0
_SPHERES = tuple(
    replace(
        sphere,
        centre_mm=(*sphere.centre_mm[:2], 0.0),
        contrast_hu=_EDGE_HU if number == 1 else sphere.contrast_hu,
    )
    for number, sphere in enumerate(LESIONS[:6])
)


@dataclass(frozen=True)
class Measurement:
    """What was measured of one protocol; kinds of `own` and `torso` are "before" and the strengths as `kind` says.

    Args:
        slices: How many slices of its own were measured.
        slices_sha256: Hash of their SOPInstanceUIDs: tells which, to whoever has them.
        noise: `SeriesNoise` that the torso was given.
        blend: `NoiseOfBlend` of its own slices.
        own: `kpn_tf.quality.Report` of its own slices.
        torso: `kpn_tf.quality.Report` of the torso.
        realisations: Scans of the torso with, and as many without lesions.
        pictures_hu: `(h, w)` in HU of the first scan of the torso with lesions, by kind.
    """

    slices: int
    slices_sha256: str
    noise: SeriesNoise
    blend: NoiseOfBlend = field(repr=False)
    own: Report = field(repr=False)
    torso: Report = field(repr=False)
    realisations: int
    pictures_hu: dict[str, np.ndarray] = field(repr=False)

    def own_values(self, name, of=None):
        """`Interval`s of a quantity of its own slices by kind; empty if it was not measured."""
        return _values(self.own, name, of)

    def torso_values(self, name, of=None):
        """`Interval`s of a quantity of the torso by kind."""
        return _values(self.torso, name, of)

    def lesions(self):
        """Names of the lesions of low contrast, the smallest first."""
        names = [q.of for q in self.torso.quantities if q.name == "contrast"]
        faint = [name for name in names if not name.startswith(f"{_EDGE_HU:+.0f}")]
        return sorted(faint, key=lambda name: float(name.split()[2]))

    @property
    def edge(self):
        """Name of the lesion of high contrast."""
        return next(q.of for q in self.torso.quantities if q.of.startswith(f"{_EDGE_HU:+.0f}"))

    def contrast_kept(self, lesion, strength):
        """Share of a lesion's contrast that is left: linear in the strength, as blends are."""
        (q,) = (q for q in self.torso.quantities if (q.name, q.of) == ("contrast", lesion))
        return 1.0 + strength * q.changes[kind(1.0)].value / q.values["truth"].value

    def contrast_kept_interval(self, lesion, strength):
        """The 95 % interval of that share."""
        (q,) = (q for q in self.torso.quantities if (q.name, q.of) == ("contrast", lesion))
        ends = [
            1.0 + strength * end / q.values["truth"].value
            for end in (q.changes[kind(1.0)].low, q.changes[kind(1.0)].high)
        ]
        return min(ends), max(ends)


def kind(strength):
    """Name of a strength in reports.

    Example:

    >>> kind(0.2)
    '20 %'
    """
    return f"{100 * strength:g} %"


def measure(protocol, denoiser, realisations, note):
    """Measures a protocol before and after a denoiser at all `STRENGTHS`.

    Args:
        protocol: `Protocol`.
        denoiser: `kpn_tf.Denoiser` at strength 1.
        realisations: Scans of the torso with, and as many without lesions: 6 or more.
        note: Callback `(line, failure)` for slices that are left out.

    Returns:
        `Measurement`.

    Raises:
        ValueError: If no slice can be measured, or none shows flat soft tissue with noise in it.
    """
    remembering = Remembering(denoiser)
    functions = {kind(strength): AtStrength(remembering, strength) for strength in STRENGTHS}
    chosen = _chosen(protocol)
    listener = _Listener(protocol, remembering)
    count = sum(len(numbered) for _, numbered in chosen)
    with bar(listener.heard(chosen_pairs(chosen, note, denoiser.slices)), count) as pairs:
        own = measure_series(pairs, functions, referenced=False, data_name=protocol.name, note=note)
    noise = listener.series_noise()
    phantom = torso_stacks(
        (1.0,),
        realisations,
        slice_mm=protocol.thickness_mm or _USUAL_MM,
        slices=denoiser.slices,
        lesions=_SPHERES,
        noise=noise,
    )
    pictures_hu = {}

    def scans():
        for dose, present, pair in phantom.scans:
            if present and not pictures_hu:
                pictures_hu["before"] = pair.low_hu
                beside = {"neighbours": pair.neighbours} if denoiser.slices > 1 else {}
                pictures_hu["after"] = remembering(pair.low_hu, **beside)
            yield dose, present, pair

    edge = {lesion.name for lesion in phantom.lesions if lesion.contrast_hu == _EDGE_HU}
    with bar(scans(), phantom.count) as seen:
        torso = measure_phantom(phantom, seen, functions, note=note, transfer=edge)
    names = "|".join(file.sop_instance_uid for _, numbered in chosen for _, file in numbered)
    return Measurement(
        own.samples[None],
        hashlib.sha256(names.encode()).hexdigest(),
        noise,
        listener.blend,
        own,
        torso,
        realisations,
        pictures_hu,
    )


class _Listener:
    """Measures, of slices that pass by, the noise that the torso is given, and that of blends."""

    def __init__(self, protocol, denoiser):
        self.blend = NoiseOfBlend()
        self._denoiser = denoiser
        self._spacing_mm = protocol.series[0].pixel_spacing_mm
        self._meter = NoiseMeter(sum(self._spacing_mm) / 2)

    def heard(self, stream):
        """Yields the pairs of a stream."""
        for pair in stream:
            among = (
                {"neighbours": pair.nearest(self._denoiser.slices - 1)} if self._denoiser.slices > 1 else {}
            )
            # What is answered now is remembered when it counts.
            denoised_hu = self._denoiser(np.array(pair.low_hu, np.float32), **among)
            self.blend.add(pair.low_hu, denoised_hu, pair.pixel_spacing_mm)
            # A spectrum is that of one pixel spacing.
            if np.allclose(pair.pixel_spacing_mm, self._spacing_mm, rtol=0.02):
                self._meter.add(pair.low_hu, beside_last=False)
                after = pair.neighbours[len(pair.neighbours) // 2] if pair.neighbours else None
                if after is not None:
                    self._meter.add(after.slice_hu, beside_last=True)
            yield pair

    def series_noise(self):
        """`SeriesNoise` of what has passed, its magnitude as every command measures it."""
        noise = self._meter.series()
        std_hu = self.blend.noise_hu(0.0)
        if not std_hu > 0:
            raise NoNoiseError("Expected noise in flat soft tissue. Received: none")
        return replace(noise, std_hu=std_hu)


def _chosen(protocol):
    """`(series, [(number, file)])` of the slices that are measured, evenly spaced over all."""
    every = [(series, number) for series in protocol.series for number in range(len(series.slices))]
    count = min(MEASURED_SLICES, len(every))
    taken = {}
    for i in (np.arange(count) * len(every) + len(every) // 2) // count:
        series, number = every[i]
        taken.setdefault(series.key + str(series.pixel_spacing_mm), (series, []))[1].append(
            (number + 1, series.slices[number])
        )
    return list(taken.values())


def _values(report, name, of):
    found = [q.values for q in report.quantities if q.name == name and of in (None, q.of)]
    return found[0] if found else {}
