"""The page of results in Markdown: what was reached, beside what was published, and how each number came about."""

from collections import Counter, defaultdict

import numpy as np

from baselines.benchmark.budget import PAPER_BATCH, PAPER_PATCH, PAPER_STEPS
from baselines.benchmark.quality_tables import (
    difference_lines,
    line,
    lines_of,
    mean_cell,
    quality_lines,
)
from baselines.benchmark.resampling import RESAMPLES
from baselines.benchmark.runs import digest
from kpn_tf.hounsfield import WINDOWS

_NO_FIGURES = "## Figures\n\nThey are not drawn: that needs `pip install '.[figures]'`.\n"

_METRICS = (("psnr_{}_db", "PSNR {} (dB)", 2), ("ssim_{}", "SSIM {}", 4), ("rmse_hu", "RMSE (HU)", 2))


def page(benchmark, figures):
    """The whole page.

    Args:
        benchmark: `baselines.benchmark.rows.Benchmark`, with what is finished of it.
        figures: Markdown of the figures; `None` if they cannot be drawn here.

    Returns:
        A str.
    """
    tables = [_table_text(table, benchmark) for table in benchmark.shown()]
    return "\n\n".join(["# Results", _meaning(benchmark), *tables, figures or _NO_FIGURES])


def mean_over_seeds(rows, convention):
    """One record per slice, its metrics averaged over the trainings of a method.

    Args:
        rows: Finished rows of one method, one per seed.
        convention: Of the rows.

    Returns:
        List of dicts as `kpn_tf.evaluation.Results` holds them.
    """
    metrics = [name.format(convention) for name, _, _ in _METRICS]
    return [
        {
            **{name: of_slice[0][name] for name in ("denoiser", "patient", "slice")},
            **{metric: float(np.mean([record[metric] for record in of_slice])) for metric in metrics},
        }
        for of_slice in zip(*(row["records"] for row in rows), strict=True)
    ]


def _meaning(benchmark):
    rows = [row for table in benchmark.shown() for one in table.rows if (row := benchmark.row(one.method))]
    if not rows:
        return "Nothing has been evaluated yet."
    row, convention = rows[0], rows[0]["convention"]
    window = WINDOWS[convention]
    slices = Counter(record["patient"] for record in row["records"])
    most = max(slices.values())
    unread = (
        f" **{row['failures']} files or slices could not be read and are missing.**"
        if row["failures"]
        else ""
    )
    lines = [
        "Written by `kpn benchmark`; what is changed here by hand is lost with the next run.",
        f"**Data**: {row['data']} (`{digest(benchmark.data.test_key)}` names its files); {len(row['records'])} slices "
        f"of {len(slices)} patients. {row['remark']}{unread}",
        f"**Convention** `{convention}`: full frame, clipped to [{window.low_hu:g}, {window.high_hu:g}] HU, data "
        f"range {window.width_hu:g} HU, SSIM uniform 7×7; RMSE in HU, not clipped. Means over slices and seeds; in "
        f"brackets the 95 % bootstrap interval: slices and seeds, each on their own, drawn anew {RESAMPLES} times. Of "
        "one seed it knows nothing of other trainings. Slices of one patient resemble one another, and "
        f"{most} of these {len(row['records'])} are of one: other patients will differ by more than the brackets say.",
        "**Losses**: L1, the mean absolute error in all of HU; L_S, the structure-aware loss as published, which sees "
        "the soft-tissue window alone; L_S of this project, whose last term sees all of HU, so that lung and bone are "
        "kept right as well.",
        "**The paper's** numbers (Xu et al., ICIP 2021) were measured on its own data, with its own code: they show "
        "the order of the methods there, and are not to be compared with the columns beside them.",
        f"**Training**: as a share of the pixels of the paper's recipe, {PAPER_STEPS} steps of {PAPER_BATCH} patches "
        f"of {PAPER_PATCH}×{PAPER_PATCH}. Below 100 % the budget was reduced, and a network that needs longer is "
        "judged too early. All networks of one budget and seed see the same patches in the same order.",
        "BM3D and K-SVD take their σ from the noise in the flat tissue of each slice, times a factor that comes with "
        "the package, as does the share of the noisy slice that is averaged in. Both were chosen on one patient "
        "(Colorectal-Liver-Metastases 1006, a quarter dose simulated), who is in no test. The package `bm3d` may be "
        "used for non-commercial purposes only.",
    ]
    return "\n\n".join(lines)


def _table_text(table, benchmark):
    rows = [(row, benchmark.finished(row.method)) for row in table.rows]
    convention = next((finished[0]["convention"] for _, finished in rows if finished), "soft")
    headings = [
        "",
        *(heading.format(convention) for _, heading, _ in _METRICS),
        "training",
        "parameters",
        "GMAC",
    ]
    if table.in_full:
        headings += ["s/slice", "peak MB"]
    headings.append("the paper's, on its data")
    lines = lines_of(headings)
    for row, finished in rows:
        cells = [row.title, *_measured(finished, convention), *_size(finished)]
        if table.in_full:
            cells += _cost(benchmark.cost(row.method))
        cells.append(f"{row.published[0]:.2f} / {row.published[1]:.3f}" if row.published else "–")
        lines.append(line(cells))
    processors = {kept["processor"] for row in table.rows if (kept := benchmark.cost(row.method))}
    if table.in_full and processors:
        lines += [
            "",
            f"Seconds and memory of a slice of 512×512 in a process of its own on the CPU "
            f"({', '.join(sorted(processors))}): networks in Keras, except those that are shipped (LiteRT). Times mean "
            "something only if the machine did nothing else. GMAC: per slice of 512×512.",
        ]
    if table.in_full:
        lines += _by_patient(rows, convention)
    lines += difference_lines(table, benchmark, convention)
    lines += quality_lines(table, benchmark)
    lines += [
        "",
        "How each row came about:",
        "",
        "| | data | convention | budget | command |",
        "|---|---|---|---|---|",
    ]
    lines += [line([row.title, *_origin(row.method, finished, benchmark)]) for row, finished in rows]
    return f"## {table.title}\n\n" + "\n".join(lines)


def _by_patient(rows, convention):
    """A table of the mean PSNR of every patient by every method that is finished."""
    metric, columns = f"psnr_{convention}_db", {}
    for row, finished in rows:
        of_patient = columns.setdefault(row.title, defaultdict(list)) if finished else None
        for record in mean_over_seeds(finished, convention) if finished else ():
            of_patient[record["patient"]].append(record[metric])
    if not columns:
        return []
    patients = next(iter(columns.values()))
    return [
        "",
        f"Mean PSNR {convention} (dB) by patient:",
        "",
        *lines_of(["patient", "slices", *columns]),
        *(
            line([patient, str(len(values)), *(f"{np.mean(of[patient]):.2f}" for of in columns.values())])
            for patient, values in patients.items()
        ),
    ]


def _measured(finished, convention):
    if not finished:
        return ["not run", *["–"] * (len(_METRICS) - 1)]
    return [
        mean_cell(
            [[record[name.format(convention)] for record in row["records"]] for row in finished], digits
        )
        for name, _, digits in _METRICS
    ]


def _size(finished):
    if not finished:
        return ["–"] * 3
    row = finished[0]
    parameters = "–" if row["parameters"] is None else f"{row['parameters']:,}"
    return [_share(row["training"]), parameters, "–" if row["gmac_512"] is None else f"{row['gmac_512']:.1f}"]


def _share(training):
    if training is None:
        return "none"
    share = training.get("share_of_papers")
    if share is None:
        return "other data"
    return f"{100 * share:.3g} %" + (" (reduced)" if share < 1 else "")


def _cost(cost):
    return ["–", "–"] if cost is None else [f"{cost['seconds']:.2f}", f"{cost['peak_mb']:.0f}"]


def _origin(method, finished, benchmark):
    if not finished:
        return ["–"] * 4
    row, command = finished[0], f"{benchmark.plan.command} --row {method.name}"
    return [row["data"], f"`{row['convention']}`", _budget_text(finished), f"`{command}`"]


def _budget_text(finished):
    training = finished[0]["training"]
    if training is None:
        return "no training"
    patches = (
        f"{training['batch']} patches of {training['patch']}×{training['patch']}"
        if training["batch"]
        else "patches (see the model card)"
    )
    text = f"{training['steps']} steps of {patches}, Adam {training['learning_rate']:g}"
    if "gmac" not in training:
        return f"as shipped: {text}"
    seeds = f", {len(finished)} seeds" if len(finished) > 1 else ""
    # Trainings of version 0.1 say neither.
    lasted = f"; {training['seconds'] / 60:.0f} min" if training.get("seconds") else ""
    where = f"; on {training['device']}" if training.get("device") else ""
    return (
        f"{text}, {training['precision']}, {training['gmac']:.3g} GMAC forward{seeds}; {training['slices']} slices "
        f"(sha256 {training['normal_sha256'][:12]}){lasted}{where}"
    )
