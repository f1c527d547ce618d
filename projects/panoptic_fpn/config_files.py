"""Configs that travel with the package, by name.

A config inherits one with ``_base_ = 'panoptic_fpn::coco/NAME.py'`` once
``panoptic_fpn`` is imported; :func:`find_config` gives the path of one.
"""
from difflib import get_close_matches
from pathlib import Path
from typing import Dict

from mmengine.config.utils import MODULE2PACKAGE

from mmengine_exact.errors import InputError

#: Where OpenMMLab's packages keep the configs that they install.
FOLDER = Path(__file__).parent / '.mim' / 'configs'

# MMEngine resolves 'PACKAGE::PATH' for the packages of this table alone
# (by module, not by distribution: an editable one has no files of its own)
MODULE2PACKAGE.setdefault('panoptic_fpn', __name__)


def find_config(name: str) -> str:
    """Path of a packaged config.

    Args:
        name (str): With or without '.py', such as
            'panoptic-fpn_r50_fpn_1x_coco'; its folder below ``configs`` may
            stand before it, 'mmseg/semantic-fpn_r50_fpn_65k_cityscapes'.
    """
    stem = name.removesuffix('.py')
    found: Dict[str, Path] = {}
    for path in sorted(FOLDER.rglob('*.py')):
        found.setdefault(path.stem, path)
        found[path.relative_to(FOLDER).with_suffix('').as_posix()] = path
    if stem in found:
        return str(found[stem])
    near = ', '.join(get_close_matches(stem, found)) or 'nothing similar'
    raise InputError(f'{name}: neither a file nor a config of panoptic_fpn '
                     f'({near}). Correct the name or the path.')
