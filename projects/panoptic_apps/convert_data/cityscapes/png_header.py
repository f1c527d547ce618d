"""First and last bytes of PNG files: size, kind, and whether one is whole."""
import struct
from dataclasses import dataclass

from mmengine_exact.errors import CorruptFileError

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_END = b'IEND\xaeB\x60\x82'


@dataclass(frozen=True)
class PngHeader:
    """Size in pixels, bits per channel and PNG's colour type (0: grey)."""

    height: int
    width: int
    bits: int
    color_type: int

    @property
    def gray16(self) -> bool:
        return self.bits == 16 and self.color_type == 0

    def __str__(self) -> str:
        kinds = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey and alpha'}
        return f'{self.bits} bit {kinds.get(self.color_type, "RGBA")}'


def read_header(path: str, what: str) -> PngHeader:
    """Read the header of a PNG without decoding it.

    Args:
        path (str): A local file.
        what (str): What it is, for the error.

    Raises:
        CorruptFileError: It cannot be read, is no PNG, or its end is missing.
    """
    try:
        with open(path, 'rb') as file:
            head = file.read(26)
            size = file.seek(0, 2)
            file.seek(max(0, size - len(_END)))
            tail = file.read()
    except OSError as error:
        raise CorruptFileError(f'{path}: cannot read the {what} '
                               f'({error.strerror}). Restore it.') from None
    if len(head) < 26 or head[:8] != _SIGNATURE or head[12:16] != b'IHDR':
        raise CorruptFileError(f'{path}: {size} bytes that are no PNG. '
                               f'Restore the {what}.')
    if tail != _END:
        raise CorruptFileError(f'{path}: the PNG ends too early, after {size} '
                               f'bytes. Restore the {what}.')
    width, height, bits, color_type = struct.unpack('>IIBB', head[16:])
    return PngHeader(height, width, bits, color_type)
