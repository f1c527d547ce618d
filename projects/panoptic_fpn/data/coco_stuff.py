"""COCO-Stuff as in the challenge of 2017 (Table 1b).

``stuff_annotations_trainval2017.zip`` holds ``stuff_{train,val}2017.json`` and
the maps of both as ``stuff_{train,val}2017_pixelmaps.zip``: 92 .. 182 are the
91 stuff classes, 183 is 'other' (any thing), 0 is unlabelled. The JSONs were
extended to all of train2017 later; the challenge's 40k training images are
those of ``deprecated-challenge2017/train-ids.txt``, its 5k for validation are
val2017.
"""
from typing import Any, Sequence

from mmdet.registry import DATASETS

from .semantic_map import SemanticMapDataset

#: Category id of 'other'.
OTHER_ID = 183


@DATASETS.register_module()
class CocoStuffDataset(SemanticMapDataset):
    """COCO-Stuff: one thing class, 'other', and the stuff classes.

    Args:
        thing_ids (Sequence[int]): 'other'.
        **kwargs: As :class:`SemanticMapDataset`.
    """

    def __init__(self,
                 *args: Any,
                 thing_ids: Sequence[int] = (OTHER_ID, ),
                 **kwargs: Any) -> None:
        super().__init__(*args, thing_ids=thing_ids, **kwargs)
