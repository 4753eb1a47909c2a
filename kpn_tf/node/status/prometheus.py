"""What `kpn_tf.node.status.snapshot` found, for monitoring: Prometheus' text format, version 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def prometheus(told):
    """Returns the metrics, text.

    Args:
        told: What `snapshot` returned.
    """
    return "".join(_lines(*metric) for metric in _metrics(told))


def _metrics(told):
    """Name, kind, help, and samples: labels and value."""
    node, disk, flow, totals = told["node"], told["disk"], told["throughput"], told["totals"]
    about = {"version": told["kpn_tf"], "ae_title": node["ae_title"]}
    destinations = told["destinations"]
    yield "kpn_info", "gauge", "What runs.", [(about, 1)]
    yield "kpn_ok", "gauge", "0 where something needs attention.", [({}, int(told["ok"]))]
    yield "kpn_uptime_seconds", "gauge", "Since the node was started.", _known(node["uptime_s"])
    yield "kpn_disk_free_bytes", "gauge", "Free where the spool is.", [({}, disk["free_bytes"])]
    yield (
        "kpn_disk_reserve_bytes",
        "gauge",
        "Slices are refused while less is free.",
        [({}, disk["reserve_bytes"])],
    )
    states = [({"state": state}, count) for state, count in told["series"].items()]
    yield "kpn_series", "gauge", "Series in the journal.", states
    letters = [
        ({"destination": one["name"], "state": state}, one[state])
        for one in destinations
        for state in ("queued", "dead")
    ]
    yield "kpn_deliveries", "gauge", "Objects not delivered: waiting, or given up.", letters
    reach = [({"destination": one["name"]}, int(not one["outage"])) for one in destinations]
    yield "kpn_destination_up", "gauge", "0 while a destination is out of reach.", reach
    yield "kpn_seconds_per_slice", "gauge", "Of the last series.", _known(flow["seconds_per_slice"])
    for what in ("received", "denoised"):
        name, text = f"kpn_slices_{what}_total", f"Slices {what} since the journal was made."
        yield name, "counter", text, [({}, totals[what])]
    for what, name in (("sent", "kpn_objects_sent_total"), ("dead", "kpn_dead_letters_total")):
        samples = [({"destination": one}, count) for one, count in totals[what].items()]
        yield name, "counter", f"Objects {what} since the journal was made.", samples


def _known(value):
    return [] if value is None else [({}, value)]


def _lines(name, kind, text, samples):
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n" + "".join(
        f"{name}{_labels(labels)} {value}\n" for labels, value in samples
    )


def _labels(labels):
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value):
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
