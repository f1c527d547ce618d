"""What a model costs, from shapes alone: nothing is computed or allocated."""
from .complexity import (Complexity, Cost, complexity, complexity_json,
                         complexity_table, measure)
from .memory import TrainingMemory, training_memory
from .meta_model import build_on_meta

__all__ = [
    'Complexity', 'Cost', 'TrainingMemory', 'build_on_meta', 'complexity',
    'complexity_json', 'complexity_table', 'measure', 'training_memory'
]
