"""The same picture twice: in one data set, or in both.

Pictures are the same where all decoded pixels are; a copy that was resized
or compressed again is not found.
"""
from typing import Dict, List, Optional, Sequence, Tuple

from .findings import Finding, Findings
from .image_files import read_image

_Digests = Dict[bytes, List[str]]


class Pictures:
    """Names of pictures by the digest of their pixels."""

    def __init__(self) -> None:
        self._names: _Digests = {}

    def add(self, digest: Optional[bytes], name: str) -> None:
        """Note a picture; one that cannot be read (None) is passed over."""
        if digest is not None:
            self._names.setdefault(digest, []).append(name)

    def find_twice(self, findings: Findings) -> None:
        """Add pictures that occur more than once."""
        for names in self._names.values():
            if len(set(names)) > 1:
                findings.add('same_picture', names[0], ', '.join(names[1:4]))

    def find_leakage(self, other: 'Pictures', findings: Findings) -> None:
        """Add pictures that another data set has, too."""
        for digest, names in self._names.items():
            for name in names if digest in other._names else ():
                findings.add('leakage', name, other._names[digest][0])


def digest_images(
        paths: Sequence[str]
) -> List[Tuple[str, Optional[bytes], List[Finding]]]:
    """(path, digest or None, findings) of each image: one call of a
    process."""
    results = []
    for path in paths:
        _, digest, found = read_image(path)
        results.append((path, digest, found))
    return results
