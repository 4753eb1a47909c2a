"""A report of a denoised series: one HTML file in which every pixel can be asked why it became what it is."""

from kpn_tf.report.content import USUAL_SLICES, Plan, ReportSlice, plan, report_slices
from kpn_tf.report.document import is_report, write_report

__all__ = ["USUAL_SLICES", "Plan", "ReportSlice", "is_report", "plan", "report_slices", "write_report"]
