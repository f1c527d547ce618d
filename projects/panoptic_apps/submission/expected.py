"""Which images and classes an archive has to be about."""
import os.path as osp
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from mmengine.fileio import exists

from mmengine_exact.errors import InputError
from panoptic_fpn.labels import LabelSpace

from .violations import Violation


@dataclass(frozen=True)
class Expected:
    """Size (h, w) of each image by id, and the classes."""

    sizes: Dict[Any, Tuple[int, int]]
    space: LabelSpace

    def check_id(self, image_id: Any, where: str) -> List[Violation]:
        """What is wrong with an image id of a JSON."""
        # True == 1, and a list has no hash
        if type(image_id) not in (int, str) or image_id not in self.sizes:
            return [
                Violation('unknown image', where,
                          f'image_id {image_id!r} is not of this test set')
            ]
        return []


def expected_of(dataset: Any) -> Expected:
    """Images and classes of a data set.

    Args:
        dataset (CocoPanopticFPNDataset): Annotated or not.
    """
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    sizes = {info['img_id']: (info['height'], info['width']) for info in infos}
    return Expected(sizes, dataset.label_space)


def require_images(dataset: Any) -> None:
    """See that all images are there, before hours of inference.

    Raises:
        InputError: Names the first that is missing, and how many.
    """
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    backend = getattr(dataset, 'backend_args', None)
    if backend is not None:  # asking a server for each would take long
        return
    missing = [path for path in paths if not exists(path)]
    if missing:
        raise InputError(
            f'{missing[0]}: no such file, as {len(missing)} of {len(paths)} '
            f'images; a submission holds all of them. Restore them below '
            f'{osp.dirname(missing[0])}, or correct --image-dir.')
