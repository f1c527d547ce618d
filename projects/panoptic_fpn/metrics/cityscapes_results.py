"""Results as the benchmark server and the official scripts take them.

``PREFIX.instances/ID_pred.txt``          a line for each instance: mask, id of
                                          the label table, confidence
``PREFIX.instances/masks/ID_N.png``       its mask, one channel, 0 or 255
``PREFIX.semantic/ID_pred_labelIds.png``  one channel, ids of the label table

ID is ``<city>_<sequence>_<frame>``. Each folder is handed in, or named by
CITYSCAPES_RESULTS, by itself: the scripts search it for names that begin with
ID, and would take a mask for a semantic map.
"""
from pathlib import Path
from typing import List, Sequence, Union

import numpy as np

from ..coco_format.results import write_image, write_result
from .per_image import ImageId


def instances_folder(prefix: str) -> str:
    return f'{prefix}.instances'


def semantic_folder(prefix: str) -> str:
    return f'{prefix}.semantic'


def instance_files(image_id: ImageId, num_masks: int) -> List[str]:
    """Files of an image, relative to the folder, the text file first."""
    masks = [f'masks/{image_id}_{n}.png' for n in range(num_masks)]
    return [f'{image_id}_pred.txt', *masks]


def semantic_file(image_id: ImageId) -> str:
    return f'{image_id}_pred_labelIds.png'


def write_instances(prefix: str, image_id: ImageId, ids: Sequence[int],
                    scores: Union[np.ndarray, Sequence[float]],
                    masks: Union[np.ndarray, Sequence[np.ndarray]]) -> int:
    """Write the instances of one image, also where there are none.

    Masks of an earlier export of the image that are not replaced are
    removed.

    Args:
        prefix (str): Folder and first part of the names of all files.
        image_id (int | str): The image.
        ids (Sequence[int]): n ids of the label table.
        scores (np.ndarray | Sequence[float]): n confidences; they read back
            exactly.
        masks (np.ndarray | Sequence[np.ndarray]): n masks (h, w); those
            without a pixel are left out.

    Returns:
        int: Number of masks.

    Raises:
        InputError: A file cannot be written.
    """
    folder = Path(instances_folder(prefix))
    kept = [i for i, mask in enumerate(masks) if mask.any()]
    text, *names = instance_files(image_id, len(kept))
    lines = []
    for i, name in zip(kept, names):
        write_image(folder / name, masks[i].astype(bool) * np.uint8(255))
        lines.append(f'{name} {int(ids[i])} {float(scores[i])!r}\n')
    write_result(folder / text, ''.join(lines).encode())
    number = len(kept)
    while (folder / f'masks/{image_id}_{number}.png').exists():
        (folder / f'masks/{image_id}_{number}.png').unlink(missing_ok=True)
        number += 1
    return len(kept)


def write_semantic(prefix: str, image_id: ImageId, ids: np.ndarray) -> None:
    """Write the semantic map of one image.

    Args:
        prefix (str): Folder and first part of the names of all files.
        image_id (int | str): The image.
        ids (np.ndarray): uint8 (h, w), ids of the label table.

    Raises:
        InputError: The file cannot be written.
    """
    write_image(Path(semantic_folder(prefix)) / semantic_file(image_id), ids)
