"""The paper's tables as rows, each with one config and one command.

tables     ``configs/paper/tables.yml``: numbers, configs, claims
runs       a config with its folder: what is in it, what it was made from
plan       the commands that rows need, carried out by Snakemake
results    states and scores of runs, and verdicts on the paper's claims
collect    all results, table by table; report and pictures show them
listing    the rows in the terminal and as a map
zoo        recorded results, and the model zoo page
compute    Figure 4 and the compute of Tables 1a, 3a and 3b
"""
