"""Batch stream in which all classes occur about equally often."""
from functools import cached_property
from typing import Any, Dict, List, Optional, Sized, Tuple

import numpy as np
from mmdet.registry import DATA_SAMPLERS

from mmengine_exact.stream import (ResumableInfiniteSampler, SeededIndex,
                                   derive_seed)


@DATA_SAMPLERS.register_module()
class ClassUniformInfiniteSampler(ResumableInfiniteSampler):
    """Endless stream in which all classes occur about equally often.

    Each draw is a class, uniformly, and then one of the images in which it
    occurs, uniformly; ``PanopticRandomCrop(bootstrap=True)`` crops around
    the class ('crop bootstrapping', section 4.1; see there for the
    reading). A pass draws as many images as there are, with replacement.

    Args:
        dataset (Sized): Entries of its ``get_data_info`` have
            ``segments_info``.
        seed (int, optional): As for :class:`ResumableInfiniteSampler`.
    """

    def __init__(self, dataset: Sized, seed: Optional[int] = None) -> None:
        super().__init__(dataset, seed=seed)
        self._pass: Tuple[Any, Any] = (None, None)

    @cached_property
    def images(self) -> Dict[int, np.ndarray]:
        """Indices of the images of each class that occurs, by label."""
        return images_of_classes(self.dataset)

    def draws(self, epoch: int) -> Tuple[np.ndarray, np.ndarray]:
        """Indices and labels of one pass, of all ranks together."""
        key = (self.seed, epoch)
        if self._pass[0] != key:
            generator = np.random.default_rng(
                derive_seed('shuffle', self.seed, epoch))
            known = sorted(self.images)
            labels = generator.choice(known, self.size)
            indices = np.array(
                [generator.choice(self.images[label]) for label in labels])
            self._pass = (key, (indices, labels))
        return self._pass[1]

    def order(self, epoch: int) -> np.ndarray:
        return self.draws(epoch)[0]

    def tag(self, index: int, draw: int) -> SeededIndex:
        epoch, offset = divmod(self.rank + draw * self.world_size, self.size)
        tagged = super().tag(index, draw)
        tagged.label = int(self.draws(epoch)[1][offset])
        return tagged


def images_of_classes(dataset: Any) -> Dict[int, np.ndarray]:
    """Which images each class occurs in.

    Returns:
        dict[int, np.ndarray]: Label -> int64 indices, ascending.
    """
    found: Dict[int, List[int]] = {}
    for index in range(len(dataset)):
        segments = dataset.get_data_info(index)['segments_info'] or []
        for label in {segment['category'] for segment in segments}:
            found.setdefault(label, []).append(index)
    return {label: np.array(indices) for label, indices in found.items()}
