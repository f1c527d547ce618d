"""What a model costs, from shapes alone: nothing is computed or allocated."""
from .complexity import Complexity, complexity
from .counting import Cost, measure
from .memory import TrainingMemory, training_memory
from .meta_model import build_on_meta
from .paper_compute import PaperCompute, paper_compute
from .text import complexity_json, complexity_table, figure4_json, paper_page

__all__ = [
    'Complexity', 'Cost', 'PaperCompute', 'TrainingMemory', 'build_on_meta',
    'complexity', 'complexity_json', 'complexity_table', 'figure4_json',
    'measure', 'paper_compute', 'paper_page', 'training_memory'
]
