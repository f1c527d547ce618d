"""The paper's tables as rows, each with one config and one command.

rows       ``configs/paper/tables.yml``: numbers, configs, claims
run        a config with its folder: what is in it, what it was made from
steps      the commands of a run; plan chooses those that the rows need
scheduler  carries them out side by side, with processes
results    states and metrics of runs, medians and ranges over the seeds
claims     what the paper says, held against our ranges
collect    all results, table by table; report and pictures show them
listing    the rows in the terminal and as a map
saved      files of a report and recorded results; zoo is the model zoo page
compute    Figure 4 and the compute of Tables 1a, 3a and 3b
"""
from .rows import PaperError

__all__ = ['PaperError']
