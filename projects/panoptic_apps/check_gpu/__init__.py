"""Check of a GPU: right against the CPU, times and launches beside mmdet's."""
