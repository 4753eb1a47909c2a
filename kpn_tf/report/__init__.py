"""A report of a denoised series: one HTML file in which every pixel can be asked why it became what it is."""

from kpn_tf.report.content import ReportSlice, report_slices
from kpn_tf.report.document import is_report, write_report
from kpn_tf.report.selection import USUAL_SLICES, Plan, ShownSeries, plan

__all__ = [
    "USUAL_SLICES",
    "Plan",
    "ReportSlice",
    "ShownSeries",
    "is_report",
    "plan",
    "report_slices",
    "write_report",
]
