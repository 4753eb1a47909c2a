"""The evidence for one protocol as two pages of HTML: no script, nothing loaded, no image of a patient."""

import base64
import html
import re
from pathlib import Path

import numpy as np

from kpn_tf import __version__
from kpn_tf.denoiser.strength import blended
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.png import grey, png
from kpn_tf.quality.report import BEFORE, cell
from kpn_tf.study.chart import chart
from kpn_tf.study.measurement import STRENGTHS, kind
from kpn_tf.study.recommendation import CONTRAST_KEPT

_TEMPLATE = Path(__file__).with_name("sheet.html")

# Quantities of the table: where they are measured, name, what on, heading.
_OWN = (
    ("noise SD", None, "noise SD (HU)"),
    ("NPS, mean frequency", None, "texture: NPS mean frequency (1/mm)"),
    ("HU bias, mean", None, "HU bias (HU)"),
    ("gradient strength", "edge", "gradient of edges (HU/pixel)"),
)


def sheet(protocol, measurement, recommendation, identity, day, like=None):
    """Returns the document, text.

    Args:
        protocol: `Protocol`.
        measurement: Its `Measurement`.
        recommendation: Its `Recommendation`.
        identity: `kpn_tf.denoiser.Identity` of the network.
        day: `datetime.date` of the study.
        like: `kpn_tf.dose.routine.RoutineNoise`, or `None`.
    """
    parts = {
        "name": html.escape(protocol.name),
        "version": __version__,
        "day": day.isoformat(),
        "verdict": _verdict(recommendation),
        "charts": _charts(measurement, recommendation),
        "table": _table(measurement),
        "pictures": _pictures(measurement, recommendation),
        "data": _pairs(_data(protocol, measurement, like)),
        "methods": _points(_methods(measurement)),
        "limits": _points(_limits(measurement)),
        "identity": _pairs(_identity(identity, measurement)),
    }
    template = _TEMPLATE.read_text(encoding="utf-8")
    # In one go: what headers say may look like a place of the page.
    return re.sub(r"{{(\w+)}}", lambda place: parts[place[1]], template)


def _verdict(recommendation):
    warned = " warned" if recommendation.warnings else ""
    at = f"by contrast up to {recommendation.by_contrast:.2f}"
    if recommendation.by_noise is not None:
        at += f", by noise {recommendation.by_noise:.2f}"
    lines = "".join(f"<p>{html.escape(warning)}</p>" for warning in recommendation.warnings)
    return (
        f'<div class="verdict{warned}"><strong>Recommended strength: {recommendation.strength:g}</strong> '
        f"({at}); leaves {recommendation.noise_hu:.1f} HU of noise."
        f"<p>{html.escape(recommendation.rule)}</p>{lines}</div>"
    )


def _charts(measurement, recommendation):
    grid = (0.0, *STRENGTHS)
    noise = {
        name: [(s, values[BEFORE if s == 0 else kind(s)].value) for s in grid]
        for name, values in (
            ("own slices", measurement.own_values("noise SD")),
            ("torso", measurement.torso_values("noise SD")),
        )
        if values
    }
    kept = {
        lesion: [(s, 100 * measurement.contrast_kept(lesion, s)) for s in grid]
        for lesion in measurement.lesions()
    }
    return "".join(
        f"<figure>{chart(*what, marked=recommendation.strength)}</figure>"
        for what in (("Noise", "HU", noise), ("Contrast kept", "%", kept))
    )


def _table(measurement):
    kinds = (BEFORE, *(kind(s) for s in STRENGTHS))
    rows = []
    for name, of, heading in _OWN:
        rows.append((f"{heading}, own slices", measurement.own_values(name, of)))
    rows.append(("noise SD (HU), torso", measurement.torso_values("noise SD")))
    rows.append(
        (
            f"sharpness: TTF f50 (1/mm), {measurement.edge}",
            measurement.torso_values("TTF, f50", measurement.edge),
        )
    )
    for lesion in measurement.lesions():
        rows.append((f"contrast (HU), {lesion}", measurement.torso_values("contrast", lesion)))
    for lesion in measurement.lesions()[:2]:
        rows.append((f"d', {lesion}", measurement.torso_values("detectability d'", lesion)))
    head = "".join(f"<th>{'given' if one == BEFORE else one[:-2]}</th>" for one in kinds)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>{''.join(_cell(values.get(one)) for one in kinds)}</tr>"
        for name, values in rows
        if values
    )
    return f"<table><thead><tr><th>strength in %</th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(interval):
    value, _, ends = cell(interval).partition(" ")
    return f"<td>{value}<small>{ends}</small></td>"


def _pictures(measurement, recommendation):
    before_hu, after_hu = (measurement.pictures_hu[name] for name in ("before", "after"))
    shown = (
        ("as given", 0.0),
        (f"strength {recommendation.strength:g}", recommendation.strength),
        ("strength 1", 1.0),
    )
    figures = []
    for caption, strength in shown:
        content = base64.b64encode(png(grey(blended(before_hu, after_hu, strength), WINDOWS["soft"])))
        figures.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{content.decode()}">'
            f"<figcaption>{caption}; the liver of the digital torso, -160 to 240 HU</figcaption></figure>"
        )
    return "".join(figures)


def _data(protocol, measurement, like):
    yield "series", ", ".join(f"...{series.label}" for series in protocol.series)
    total = sum(len(series.slices) for series in protocol.series)
    yield "slices", f"{measurement.slices} measured of {total}, evenly spaced"
    yield "slices SHA-256", f"{measurement.slices_sha256} (of their SOPInstanceUIDs, joined by |)"
    flat = measurement.blend.measured
    yield (
        "noise",
        (
            f"{measurement.noise.std_hu:.1f} HU in the flat soft tissue of {flat} of them, "
            f"correlation from slice to slice {measurement.noise.correlation:.2f}"
        ),
    )
    if like is not None:
        yield "routine dose", like.text
    yield "torso", f"{measurement.torso.data_name}; the noise of the row above, in magnitude and spectrum"


def _methods(measurement):
    yield "Strength s is a blend: x + s (network(x) - x). Contrast is linear in s; noise is measured in blended slices."
    conventions = {**measurement.own.conventions, **measurement.torso.conventions}
    for name in ("noise SD", "NPS", "HU bias", "contrast", "TTF", "d'", "intervals"):
        if name in conventions:
            yield f"{name}: {conventions[name]}"
    yield (
        "Contrast kept: 1 plus the change of the mean contrast over the true contrast; of "
        f"{measurement.lesions()[0]} at strength 1 its 95 % interval is "
        "{:.0%} to {:.0%}".format(*measurement.contrast_kept_interval(measurement.lesions()[0], 1.0))
    )


def _limits(measurement):
    yield "The lesions are those of a phantom: smooth, round, in a liver without vessels. No reader has looked at any."
    yield (
        f"{CONTRAST_KEPT:.0%} of the contrast is a convention. The noise around a lesion goes as well: what that "
        "means for finding it is told by d', of a machine that undoes all that is linear."
    )
    yield "The low dose is as the scanner made it; photon starvation, metal and motion are in no torso."
    yield (
        "A network is not linear: these numbers hold for this noise and texture. Another kernel, thickness, dose or "
        "iterative reconstruction is another protocol."
    )
    yield f"{measurement.slices} slices of what was given; other patients of other size have other noise."


def _identity(identity, measurement):
    yield "network", f"{identity.model} {identity.version}, {identity.licence}"
    yield "file SHA-256", identity.file_sha256
    if identity.weights_sha256:
        yield "weights SHA-256", identity.weights_sha256
    yield "software", f"kpn_tf {__version__}, NumPy {np.__version__}"
    yield (
        "scans of the torso",
        (f"{measurement.realisations} with and {measurement.realisations} without lesions; fixed seeds"),
    )


def _pairs(pairs):
    return "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in pairs)


def _points(texts):
    return "".join(f"<li>{html.escape(text)}</li>" for text in texts)
