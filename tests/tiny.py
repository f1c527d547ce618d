"""The tiny model with random weights, as files: for tests of what is made of
results, whatever they are."""
from pathlib import Path
from typing import Tuple

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import panoptic_fpn  # noqa: F401
from panoptic_fpn.labels import Category, LabelSpace, default_color

REPO_ROOT = Path(__file__).resolve().parents[1]
CONFIG = REPO_ROOT / 'configs/synthetic/panoptic-fpn_tiny_synthetic.py'

#: 4 things and 5 stuff classes, as the config has them.
SPACE = LabelSpace([
    Category(10 + i, f'{"thing" if i < 4 else "stuff"} {i}', i < 4,
             default_color(i)) for i in range(9)
])


def write_tiny_model(folder: Path) -> Tuple[Path, Path]:
    """Write config and checkpoint of the tiny model.

    Args:
        folder (Path): Where to.

    Returns:
        tuple[Path, Path]: The config and the checkpoint. Classes come from
        the checkpoint; the config has no data.
    """
    config = Config.fromfile(CONFIG)
    config.test_dataloader.dataset.data_root = str(folder / 'none')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    with torch.no_grad():
        # from about 1 / 5 for each class to scores that differ
        model.roi_head.bbox_head.fc_cls.weight *= 30
    path = folder / 'tiny.py'
    config.dump(path)
    checkpoint = folder / 'tiny.pth'
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=SPACE.metainfo())), checkpoint)
    return path, checkpoint


def picture(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """Blocks of random colours: RGB uint8 of shape (height, width, 3)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3))
    image = small.repeat(16, 0).repeat(16, 1)[:height, :width]
    return image.astype(np.uint8)
