"""A config for a data set of one's own, derived from a base."""
from .new_dataset import Split, new_dataset_config

__all__ = ['Split', 'new_dataset_config']
