"""The figures of the benchmark's page, drawn by matplotlib; `baselines.benchmark.figures` chooses what they show."""

from matplotlib.figure import Figure

from kpn_tf.figures.panels import COLUMNS, show_hu, square_panels
from kpn_tf.figures.style import in_style, laid_out, line_style


@in_style
def crops_figure(slices_hu, window):
    """Crops side by side.

    Args:
        slices_hu: Dict of `(H, W)` in HU by the name above it.
        window: `kpn_tf.hounsfield.Window` they are seen through.

    Returns:
        `matplotlib.figure.Figure`.
    """
    columns = min(COLUMNS, len(slices_hu))
    figure, panels = square_panels(-(-len(slices_hu) // columns), columns)
    for axes, (name, slice_hu) in zip(panels.flat, slices_hu.items(), strict=False):
        show_hu(axes, name, slice_hu, window)
    for axes in panels.flat[len(slices_hu) :]:
        axes.remove()
    return figure


@in_style
def dose_figure(curves, y_label):
    """PSNR over tube current, a panel for each tube voltage.

    Args:
        curves: `kpn_tf.datasets.dose_curve.DoseCurve`s.
        y_label: Beside the first panel.

    Returns:
        `matplotlib.figure.Figure`.
    """
    voltages_kv = sorted({curve.tube_voltage_kv for curve in curves})
    names = list(dict.fromkeys(curve.denoiser for curve in curves))
    figure = Figure(figsize=(9, 3.5 + 0.1 * len(names)), layout="constrained")
    panels = dict(
        zip(voltages_kv, figure.subplots(1, len(voltages_kv), sharey=True, squeeze=False)[0], strict=True)
    )
    lines = {}
    for curve in curves:
        (lines[curve.denoiser],) = panels[curve.tube_voltage_kv].plot(
            curve.currents_ma,
            curve.psnr_db,
            **line_style(names.index(curve.denoiser)),
            label=curve.denoiser,
        )
    for voltage_kv, axes in panels.items():
        axes.set(title=f"{voltage_kv} kV", xlabel="tube current (mA)")
        axes.set_xticks(
            sorted({mA for c in curves if c.tube_voltage_kv == voltage_kv for mA in c.currents_ma})
        )
        axes.grid(color="0.9")
    panels[voltages_kv[0]].set_ylabel(y_label)
    figure.legend(handles=[lines[name] for name in names], loc="outside lower center", ncols=2)
    return laid_out(figure)


@in_style
def spectra_figure(frequencies_per_mm, spectra):
    """Radial noise power spectra in one panel.

    Args:
        frequencies_per_mm: Where the spectra were taken, `(n,)`.
        spectra: Dict of `(n,)` in HU²·mm² by name; NaN where there is no value.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(9, 4 + 0.1 * len(spectra)), layout="constrained")
    axes = figure.subplots()
    for number, (name, spectrum) in enumerate(spectra.items()):
        axes.plot(frequencies_per_mm, spectrum, **line_style(number), label=name)
    axes.set(xlabel="frequency (1/mm)", ylabel="noise power (HU²·mm²)", yscale="log")
    axes.grid(color="0.9")
    figure.legend(loc="outside lower center", ncols=2)
    return laid_out(figure)
