"""Names in a picture: fonts, where a name fits, drawing it.

Positions are (x, y) in pixels, as Pillow's; maps and shapes are (h, w, ...);
sizes of text are font heights in pixels.
"""
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Iterable, List, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: Part of a name's width that must lie in its segment.
_INSIDE = 0.6

#: Places for names are searched on maps of at most this many pixels a side.
_SEARCH_SIZE = 640

#: RGB and opacity of the box behind a name.
_BOX_COLOR, _BOX_ALPHA = (18, 18, 22), 0.62

#: Suffixes by which COCO distinguishes stuff classes from thing classes.
_SUFFIX = re.compile('(?<=.)(-other-merged|-merged|-other|-stuff)$')


@dataclass(frozen=True)
class Tag:
    """A name centred at (x, y), ``size`` pixels high."""

    text: str
    x: float
    y: float
    size: int

    @property
    def box(self) -> Tuple[float, float, float, float]:
        """(x1, y1, x2, y2) of the text with its padding."""
        width, height = text_size(self.text, self.size)
        return (self.x - width / 2, self.y - height / 2, self.x + width / 2,
                self.y + height / 2)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a picture is large enough."""
        width, height = text_size(self.text, self.size)
        return height < shape[0] and width < shape[1]

    def inside(self, shape: Sequence[int]) -> 'Tag':
        """The tag moved so that its box lies in a picture."""
        width, height = text_size(self.text, self.size)
        x = max(min(self.x, shape[1] - width / 2 - 1), width / 2)
        y = max(min(self.y, shape[0] - height / 2 - 1), height / 2)
        return replace(self, x=x, y=y)

    def overlaps(self, other: 'Tag') -> bool:
        a, b = self.box, other.box
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@lru_cache(maxsize=64)
def get_font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own scalable font (Pillow >= 10.1), which needs no file."""
    return ImageFont.load_default(size)  # type: ignore[return-value]


def font_size(shape: Sequence[int]) -> int:
    """Size of text in a picture."""
    return int(np.clip(round(np.sqrt(shape[0] * shape[1]) / 37), 12, 36))


@lru_cache(maxsize=4096)
def text_size(text: str, size: int) -> Tuple[int, int]:
    """(width, height) of the box around a text, padding included."""
    return (int(np.ceil(get_font(size).getlength(text) + 0.7 * size)),
            int(np.ceil(1.4 * size)))


def display_names(names: Sequence[str]) -> List[str]:
    """Class names as people say them: 'wall-other-merged' is 'wall'.

    A name stays as it is where the short one would be ambiguous.
    """
    short = [_SUFFIX.sub('', name) for name in names]
    return [
        s if short.count(s) == 1 and s not in set(names) - {name} else name
        for s, name in zip(short, names)
    ]


def find_edges(index: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour is another segment; (h, w)."""
    edges = np.zeros(index.shape, dtype=bool)
    edges[:, :-1] = index[:, 1:] != index[:, :-1]
    edges[:-1] |= index[1:] != index[:-1]
    return edges


def place_names(index: np.ndarray, texts: Sequence[Sequence[str]],
                size: int) -> List[Tag]:
    """Find where in its segment each name can be read.

    A name wants the largest box of its own proportions that lies in the
    segment: on a map squeezed by width / height of the text that box is a
    square, and the chessboard distance to the nearest edge is half its side.
    Once there is room to spare, the middle of the segment is preferred.

    Args:
        index (np.ndarray): Segment of each pixel, 0 .. n-1, of shape (h, w).
        texts (Sequence[Sequence[str]]): For each segment what may be written
            on it, the preferred text first; none for no name.
        size (int): Font size wanted; a name shrinks to fit its segment, but
            not below 60 percent and 10 pixels: then there is no name.

    Returns:
        list[Tag]: At most one tag for each segment; no two overlap, and all
        lie in the picture.
    """
    step = max(1, -(-max(index.shape) // _SEARCH_SIZE))
    small = index[::step, ::step]
    edges = find_edges(small)
    wanted = text_size('', size)[1] / 2 / step

    @lru_cache(maxsize=None)
    def rooms(squeeze: int) -> np.ndarray:
        return _largest_boxes(small, edges, squeeze, wanted, len(texts))

    def fit(segment: int, text: str) -> Tuple[float, Tag]:
        width, height = text_size(text, size)
        x, y, half = rooms(max(1, round(_INSIDE * width / height)))[segment]
        # 10 percent more than fits: letters fill their box loosely.
        fitting = min(size, int(1.1 * size * half / wanted))
        return half, Tag(text, x * step, y * step, fitting)

    tags = []
    for segment, choices in enumerate(texts):
        fitting = [
            (half, tag)
            for half, tag in (fit(segment, text) for text in choices)
            if tag.size >= max(10, round(0.6 * size)) and tag.fits(index.shape)
        ]
        if fitting:
            # The preferred text, unless a shorter one is larger by far.
            tags.append(
                next(item for item in fitting
                     if item[1].size > 0.65 * fitting[-1][1].size))
    tags.sort(key=lambda item: -item[0])
    return keep_apart([tag for _, tag in tags], index.shape)


def keep_apart(tags: Iterable[Tag], shape: Sequence[int]) -> List[Tag]:
    """The tags that fit a picture, moved into it, and overlap none before
    them."""
    kept: List[Tag] = []
    for tag in tags:
        moved = tag.inside(shape)
        if tag.fits(shape) and not any(map(moved.overlaps, kept)):
            kept.append(moved)
    return kept


def _largest_boxes(index: np.ndarray, edges: np.ndarray, squeeze: int,
                   wanted: float, num: int) -> np.ndarray:
    """Centre (x, y) and half height of a box of proportions ``squeeze : 1``
    in each segment, float (num, 3), in pixels of ``index``; zero where a
    segment has no pixel on the squeezed map."""
    height = index.shape[0]
    columns = -(-index.shape[1] // squeeze)
    free = np.zeros((height + 2, columns + 2), np.uint8)
    padded = np.zeros((height, columns * squeeze), bool)
    padded[:, :index.shape[1]] = edges
    free[1:-1, 1:-1] = ~padded.reshape(height, columns, squeeze).any(2)
    half = cv2.distanceTransform(free, cv2.DIST_C, 3)[1:-1, 1:-1]
    half = np.maximum(half - 0.5, 0).ravel()

    middle = np.minimum(
        np.arange(columns) * squeeze + squeeze // 2, index.shape[1] - 1)
    owner = index[:, middle].ravel().astype(np.int64)
    ys, xs = np.divmod(np.arange(owner.size), columns)
    count = np.maximum(np.bincount(owner, minlength=num), 1)
    mean_y = np.bincount(owner, ys, num)[owner] / count[owner]
    mean_x = np.bincount(owner, xs, num)[owner] / count[owner]
    away = np.hypot(ys - mean_y, (xs - mean_x) * squeeze)
    value = np.minimum(half, 2.6 * wanted) - 0.02 * away
    # With duplicate indices the last assignment stays: the best pixel.
    best = np.argsort(value, kind='stable')
    spots = np.zeros((num, 3))
    spots[owner[best]] = np.stack([middle[xs[best]], ys[best], half[best]],
                                  axis=1)
    return spots


def draw_tags(image: np.ndarray, tags: Sequence[Tag]) -> np.ndarray:
    """Write white names on dark rounded boxes; a new RGB uint8 (h, w, 3)."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for tag in tags:
        x, y = (round(value) for value in tag.box[:2])
        shape = _rounded_box(*text_size(tag.text, tag.size), 0.35 * tag.size)
        canvas.paste(_BOX_COLOR, (x, y), shape)
        draw.text((tag.x, tag.y),
                  tag.text,
                  font=get_font(tag.size),
                  anchor='mm',
                  fill=(255, 255, 255))
    return np.asarray(canvas).copy()


@lru_cache(maxsize=256)
def _rounded_box(width: int, height: int, radius: float) -> Image.Image:
    """Opacity of a box with smooth round corners (drawn 4 times as large)."""
    shape = Image.new('L', (4 * width, 4 * height))
    ImageDraw.Draw(shape).rounded_rectangle(
        (0, 0, 4 * width - 1, 4 * height - 1),
        4 * radius,
        fill=round(255 * _BOX_ALPHA))
    return shape.resize((width, height), Image.Resampling.BOX)
