"""Image quality before and after: noise spectra, sharpness, noise maps, HU bias, detectability over dose."""

import numpy as np
from matplotlib.figure import Figure

from kpn_tf.figures.style import COLOURS, MARKERS, in_style, laid_out, line_style

# Panels abreast; more go below.
_COLUMNS = 3
_PANEL_INCHES = 2.6

# Of the cells of a grid: one that is far off would make all others white.
_PERCENTILE = 99


@in_style
def quality_figures(report):
    """Draws what a report holds.

    Args:
        report: `kpn_tf.quality.Report`.

    Returns:
        Dict of `matplotlib.figure.Figure` by the stem of a file's name, to be written with `kpn_tf.figures.write`: of
        `nps`, `nps_2d`, `noise_map`, `bias`, `ttf` and `detectability` those that there are numbers for.
    """
    curves = report.curves
    shown = {kind: grid for kind, grid in curves.bias.items() if np.nanmax(np.abs(grid), initial=0) > 0}
    found = {}
    if any(curves.radial.values()):
        found["nps"] = _radial(curves)
    if curves.plane:
        found["nps_2d"] = _planes(curves)
    if curves.noise_map:
        maps = {kind: m for kind, m in curves.noise_map.items() if np.nanmax(m, initial=0) > 0}
        if maps:
            found["noise_map"] = _maps(maps, 0, _noise_scale_hu(maps), "viridis", "noise SD (HU)")
    if shown:
        top = max(np.nanpercentile(np.abs(grid), _PERCENTILE) for grid in shown.values())
        found["bias"] = _maps(shown, -top, top, "RdBu_r", "HU bias")
    if curves.transfer:
        found["ttf"] = _transfers(curves)
    observed = [q for q in report.quantities if q.name == "detectability d'"]
    if observed:
        found["detectability"] = _detectability(observed)
    return {name: laid_out(figure) for name, figure in found.items()}


def _grid(count, height=_PANEL_INCHES, **options):
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    size = (max(5.0, columns * _PANEL_INCHES), rows * height + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _named(figure, axes, count):
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(count, _COLUMNS))


def _radial(curves):
    shown = {dose: _measured(kinds) for dose, kinds in curves.radial.items() if kinds}
    figure, panels = _grid(len(shown), sharey=True)
    for axes, (dose, kinds) in zip(panels, shown.items(), strict=True):
        for number, (kind, (frequency, nps)) in enumerate(kinds.items()):
            axes.plot(frequency, nps, label=kind, markersize=3, **line_style(number))
        axes.set(xlabel=f"frequency (1/{curves.length})", yscale="log", title=_dose_name(dose))
        axes.grid(color="0.9")
    panels[0].set_ylabel(f"NPS (HU²·{curves.length}²)")
    _named(figure, panels[0], len(kinds))
    return figure


def _measured(kinds):
    """Without the truth, which has no noise."""
    return {kind: curve for kind, curve in kinds.items() if kind != "truth"}


def _dose_name(dose):
    return "" if dose is None else f"{100 * dose:g} % of the dose"


def _planes(curves):
    planes = _measured(curves.plane)
    figure, panels = _grid(len(planes), height=3.4)
    for axes, (kind, ((fy, fx), nps)) in zip(panels, planes.items(), strict=True):
        edges = [n / 2 * (f[1] - f[0]) for n, f in ((len(fx), fx), (len(fy), fy))]
        extent = (-edges[0], edges[0], edges[1], -edges[1])
        picture = axes.imshow(np.fft.fftshift(nps), cmap="viridis", vmin=0, extent=extent)
        tick = round(0.6 * min(edges), 1)
        axes.set(
            title=kind,
            xlabel=f"frequency (1/{curves.length})",
            xticks=(-tick, 0, tick),
            yticks=(-tick, 0, tick),
        )
        # Ticks away from its ends, where they would stick out.
        top = float(f"{0.8 * nps.max():.1g}")
        figure.colorbar(
            picture, ax=axes, location="bottom", label=f"NPS (HU²·{curves.length}²)", ticks=(0, top / 2, top)
        )
    return figure


def _noise_scale_hu(maps):
    """Twice the noise that is usual in the first map, so that edges do not set the scale."""
    first = next(iter(maps.values()))
    return 2 * np.nanmedian(first[first > 0])


def _maps(maps, low, high, colours, label):
    figure, panels = _grid(len(maps), height=2.2)
    for axes, (kind, values) in zip(panels, maps.items(), strict=True):
        picture = axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        axes.set(title=kind, xticks=(), yticks=())
    figure.colorbar(picture, ax=list(panels), location="bottom", label=label, fraction=0.05)
    return figure


def _transfers(curves):
    figure, panels = _grid(len(curves.transfer), sharey=True)
    for axes, (name, kinds) in zip(panels, curves.transfer.items(), strict=True):
        for number, (kind, transfer) in enumerate(kinds.items()):
            look = {"color": "0.6", "linestyle": "--"} if kind == "truth" else line_style(number)
            axes.plot(transfer.frequency_per_mm, transfer.ttf, label=kind, markevery=20, markersize=4, **look)
        axes.axhline(0.5, color="0.8", linewidth=0.8)
        axes.set(
            title=name, xlabel="frequency (1/mm)", ylim=(0, 1.3), xlim=(0, transfer.frequency_per_mm[-1] / 2)
        )
        axes.grid(color="0.9")
    panels[0].set_ylabel("TTF")
    _named(figure, panels[0], len(kinds))
    return figure


def _detectability(observed):
    """A panel per lesion; doses side by side, each denoiser with its interval."""
    lesions = list(dict.fromkeys(q.of for q in observed))
    doses = np.array(sorted({100 * q.dose for q in observed}))
    # Beside each other around their dose, so that no interval hides another.
    apart = (np.ptp(doses) or doses[-1]) / 50
    figure, panels = _grid(len(lesions))
    for axes, lesion in zip(panels, lesions, strict=True):
        of = sorted((q for q in observed if q.of == lesion), key=lambda q: q.dose)
        for number, kind in enumerate(of[0].values):
            intervals = np.array([q.values[kind] for q in of])  # (doses, 3)
            axes.errorbar(
                [100 * q.dose + apart * (number - (len(of[0].values) - 1) / 2) for q in of],
                intervals[:, 0],
                yerr=np.abs(intervals[:, 1:] - intervals[:, :1]).T,
                label=kind,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                capsize=2,
            )
        axes.set(title=lesion, xlabel="dose (%)", ylim=(0, None))
        axes.set(xlim=(doses[0] - 5 * apart, doses[-1] + 5 * apart), xticks=doses)
        axes.grid(color="0.9")
    panels[0].set_ylabel("detectability d'")
    _named(figure, panels[0], len(of[0].values))
    return figure
