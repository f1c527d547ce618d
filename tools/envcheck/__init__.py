"""What ``tools/check_env.py`` knows; needs the standard library alone.

facts   what is installed, from metadata and from imports in a child process
checks  facts -> findings, each with the command that mends it; pure functions
"""
