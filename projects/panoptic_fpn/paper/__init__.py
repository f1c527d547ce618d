"""The paper's tables as rows, each with one config and one command.

rows        ``configs/paper/tables.yml``: numbers, configs, claims
plan        which commands the rows need, each run once
runs        starts them, side by side, and goes on where it was cut off
results     metrics of finished runs; medians and ranges over the seeds
claims      what the paper says, held against our ranges
report      Markdown and JSON; pictures draws them
zoo         the model zoo page
"""
from .errors import PaperError

__all__ = ['PaperError']
