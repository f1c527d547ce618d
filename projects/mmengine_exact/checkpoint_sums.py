"""Is a checkpoint file still what was written? Its own checksums tell.

torch writes a CRC-32 of each part of a checkpoint (a zip archive) and does not
look at it when it reads: a bit that flipped on a disk or on the way becomes
another weight. A file of before torch 1.6 has no checksums; a published one
has the beginning of its SHA-256 at the end of its name.
"""
import hashlib
import logging
import os.path as osp
import re
import zipfile
from typing import Optional

from mmengine.logging import print_log

from .errors import CheckpointError

_ZIP = b'PK\x03\x04'
#: As ``resnet50-0676ba61.pth``; digits alone may be a date.
_PUBLISHED = re.compile(r'-(?=[0-9]*[a-f])([0-9a-f]{8})\.pth')


def require_unchanged(path: str) -> None:
    """Compare a file with the checksums that it carries.

    Reads the file once, at 1 GB/s and more where the disk allows it. A file
    without checksums passes; one that torch was told to write without them
    after a warning.

    Args:
        path (str): Local file.

    Raises:
        CheckpointError: They differ, or the archive is incomplete.
    """
    with open(path, 'rb') as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    if not zipped:
        _compare_with_name(path)
        return
    try:
        broken = _broken_part(path)
    except Exception as error:  # what zipfile makes of any bytes
        raise CheckpointError(damaged(path, error)) from None
    if broken is not None:
        raise CheckpointError(
            damaged(path, f'the checksum of {broken} is another'))


def _broken_part(path: str) -> Optional[str]:
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        # with torch.serialization.set_crc32_options(False) all are 0
        if broken and not any(part.CRC for part in archive.infolist()):
            print_log(
                f'{path} was written without checksums: damage to its weights '
                'would not be noticed.', 'current', logging.WARNING)
            return None
        return broken


def _compare_with_name(path: str) -> None:
    match = _PUBLISHED.search(osp.basename(path))
    if match is None:
        return
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if not digest.hexdigest().startswith(match[1]):
        raise CheckpointError(
            f'Checkpoint {path} is not what its name says: a published file '
            f'has the beginning of its SHA-256 there, {match[1]}; that of '
            f'this one is {digest.hexdigest()[:8]}. Download it again, or '
            'rename it if it was changed on purpose.')


def damaged(path: str,
            reason: object,
            otherwise: str = 'not a checkpoint') -> str:
    """The message about a file that cannot be what was written.

    Args:
        path (str): The file.
        reason (Exception | str): Its first line is shown.
        otherwise (str): What it is if it is not damaged.
    """
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return (f'Checkpoint {path} cannot be read; it is damaged or {otherwise} '
            f'({lines[0][:120]}). Copy or download it again, or use an '
            'earlier one.')
