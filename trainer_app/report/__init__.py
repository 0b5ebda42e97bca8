"""A page of runs, sweeps and curves, made from what lies in storage: no Ray, no torch, nothing is unpickled."""

from trainer_app.report.document import report_document
from trainer_app.report.page import render_page

__all__ = ["render_page", "report_document"]
