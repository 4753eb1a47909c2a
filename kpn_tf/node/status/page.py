"""What `kpn_tf.node.status.snapshot` found, as a page for people. It needs no script and loads nothing."""

import html
import re
import time
from pathlib import Path

_TEMPLATE = Path(__file__).with_name("page.html")

_REFRESH_S = 15

# Columns of sentences have a line of their own on a phone; those of somebody's words may break anywhere.
_CELLS = {name: ' class="wide"' for name in ("Note", "Why", "Trouble")} | {
    name: ' class="words"' for name in ("Destination", "What", "From", "Rule")
}

# A state is told by a word and a sign; colour only repeats them.
_STATES = {
    "received": ("↓", "slices are coming"),
    "complete": ("…", "waits for the network"),
    "denoised": ("↑", "is being sent"),
    "sent": ("✓", "nothing left to send"),
    "done": ("✓", "files deleted"),
    "failed": ("✕", "could not be denoised"),
}


def page(told):
    """Returns the document, text.

    Args:
        told: What `snapshot` returned.
    """
    node, now = told["node"], told["time"]
    parts = {
        "refresh_s": _REFRESH_S,
        "title": f"DICOM node {_text(node['ae_title'])}",
        "summary": "working" if told["ok"] else "needs attention",
        "about": f"port {node['port']}, kpn_tf {_text(told['kpn_tf'])}, {_running(node)}",
        "verdict": _verdict(told),
        "now": _now(told),
        "series": _series_counts(told["series"]),
        "destinations": _destinations(told["destinations"], now),
        "last": _series_table(told["last"], now),
        "errors": _errors(told, now),
        "clock": _clock(now),
    }
    template = _TEMPLATE.read_text(encoding="utf-8")
    # In one go: what strangers have named may look like a place of the page.
    return re.sub(r"{{(\w+)}}", lambda place: str(parts[place[1]]), template)


def duration(seconds):
    """Returns a time span in its largest unit.

    Example:

    >>> duration(7500.0)
    '2 h'
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def _verdict(told):
    if told["ok"]:
        return '<section class="verdict"><strong class="good">✓ Working</strong></section>'
    items = "".join(f"<li>{_text(what)}</li>" for what in told["attention"])
    return f'<section class="verdict bad"><strong>▲ Needs attention</strong><ul>{items}</ul></section>'


def _running(node):
    if not node["runs"]:
        return "does not run"
    return "runs" if node["uptime_s"] is None else f"runs for {duration(node['uptime_s'])}"


def _now(told):
    busy, flow, disk = told["denoising"], told["throughput"], told["disk"]
    hour, day = flow["hour"], flow["day"]
    pace = flow["seconds_per_slice"]
    parts = [
        (name, f"{hour[key]:,} <small>last hour</small><small>{day[key]:,} in 24 h</small>")
        for name, key in (
            ("Slices received", "received"),
            ("Slices denoised", "denoised"),
            ("Objects sent", "sent"),
        )
    ]
    parts.append(
        ("Pace", "–" if pace is None else f"{pace:.3f} s<small>per slice</small><small>last series</small>")
    )
    reserve = f"<small>free</small><small>{disk['reserve_bytes'] / 1e9:g} GB reserve</small>"
    parts.append(("Disk", f"{disk['free_bytes'] / 1e9:,.0f} GB {reserve}"))
    counts = _terms(parts)
    if not flow["sent_kept_whole_day"]:
        counts += (
            '<p class="dim">Files are deleted within a day, and what was sent counts no longer than that.</p>'
        )
    if busy is None:
        return f'<p class="dim">Nothing is being denoised.</p>{counts}'
    done, slices = busy["slices_done"], busy["slices"]
    return (
        f"<p>Denoising <code>{_text(busy['series'])}</code>: slice {done} of {slices}</p>"
        f'<p><progress value="{done}" max="{max(slices, 1)}" aria-label="slices denoised"></progress></p>{counts}'
    )


def _series_counts(counts):
    return _terms(
        (f"{_STATES[state][0]} {state}", f"{count:,} <small>{_STATES[state][1]}</small>")
        for state, count in counts.items()
    )


def _terms(parts):
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in parts)}</dl>"


def _destinations(destinations, now):
    return _table(
        ("Destination", "State", "Queued", "Dead letters", "Sent in 1 h", "Sent in 24 h", "Trouble"),
        [
            (
                f"<strong>{_text(one['name'])}</strong>",
                _reach(one),
                f"{one['queued']:,}",
                f"{one['dead']:,}",
                f"{one['sent_hour']:,}",
                f"{one['sent_day']:,}",
                _trouble(one, now),
            )
            for one in destinations
        ],
    )


def _reach(one):
    if not one["configured"]:
        return '<strong class="bad">▲ not in the configuration</strong>'
    if one["outage"]:
        return '<strong class="bad">✕ out of reach</strong>'
    return (
        '<strong class="bad">▲ refuses objects</strong>'
        if one["refused"]
        else '<span class="good">✓ ok</span>'
    )


def _trouble(one, now):
    outage, refused = one["outage"], one["refused"]
    if outage:
        return (
            f"{_text(outage['reason'])}: {duration(now - outage['since'])}, {outage['failures']} attempts, "
            f"next in {duration(outage['next_try'] - now)}"
        )
    return f"{refused['objects']:,} objects: {_text(refused['reason'])}" if refused else ""


def _series_table(rows, now):
    return _table(
        ("Series", "State", "Slices", "Denoised", "From", "Rule", "When", "Took", "Note"),
        [
            (
                f"<code>{_text(row['series'])}</code>",
                _state(row["state"]),
                f"{row['slices']:,}",
                f"{row['derived']:,}" if row["derived"] else "",
                _text(row["calling_ae_title"]),
                _text(row["rule"]),
                _ago(row["changed"], now),
                "" if row["seconds"] is None else f"{row['seconds']:.0f} s",
                _text(row["note"]),
            )
            for row in rows
        ],
    )


def _errors(told, now):
    failed = [
        (
            f"<code>{_text(row['series'])}</code>",
            _state("failed"),
            f"{row['slices']:,}",
            _ago(row["changed"], now),
            _text(row["note"]),
        )
        for row in told["failed"]
    ]
    letters = [
        (
            f"<code>{_text(row['series'])}</code>",
            f'<strong class="bad">✕ not delivered to {_text(row["destination"])}</strong>',
            f"{row['objects']:,}",
            _ago(row["last"], now),
            _text(row["reason"]),
        )
        for row in told["dead_letters"]
    ]
    if not failed and not letters:
        return '<p class="dim">None.</p>'
    advice = "<p><code>kpn node retry</code> tries them again, <code>kpn node purge</code> deletes them.</p>"
    return _table(("Series", "What", "Count", "When", "Why"), failed + letters) + advice


def _table(headings, rows):
    """A table whose rows become cards on a narrow screen; the roles keep it a table there. Cells are HTML."""
    if not rows:
        return '<p class="dim">None yet.</p>'
    head = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in headings)
    body = "".join(f'<tr role="row">{"".join(map(_cell, headings, row))}</tr>' for row in rows)
    return (
        f'<table role="table"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _cell(heading, value):
    return f'<td role="cell" data-label="{heading}"{_CELLS.get(heading, "")}>{value}</td>'


def _state(state):
    sign = _STATES[state][0]
    return f'<strong class="bad">{sign} {state}</strong>' if state == "failed" else f"{sign} {state}"


def _ago(then, now):
    return f'<span title="{_clock(then)}">{duration(now - then)} ago</span>'


def _clock(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def _text(words):
    return html.escape(str(words))
