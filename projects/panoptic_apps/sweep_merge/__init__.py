"""Thresholds of the merge, tried on saved branches."""
from .branch_files import PanopticBranchWriter, save_branches
from .sweep import draw_sweep, format_sweep, sweep_merge

__all__ = [
    'PanopticBranchWriter', 'draw_sweep', 'format_sweep', 'save_branches',
    'sweep_merge'
]
