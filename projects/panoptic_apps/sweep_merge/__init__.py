"""Thresholds of the merge, tried on saved branches."""
from .branch_files import PanopticBranchWriter
from .sweep import format_sweep, save_branches, sweep_merge

__all__ = [
    'PanopticBranchWriter', 'format_sweep', 'save_branches', 'sweep_merge'
]
