"""Panoptic maps, instances and semantic maps drawn over a photograph.

image      RGB uint8 (h, w, 3); never changed
panoptic   (h, w) integers ``label + 1000 * number``, void = T + S
semantic   (h, w) integers, a label; anything outside 0 .. T+S-1 is void
bboxes     (n, 4) x1, y1, x2, y2 in pixels of the image
labels     (n, ) integers
masks      (n, h, w) bool
space      the ``LabelSpace``: names, colours (RGB), T and S
alpha      opacity of the colours
names      whether to write the names of the classes
notes      what follows a name, such as a score or '(crowd)': by code of the
           segment, or for each instance
scale      small images are enlarged this many times, so that outlines and
           names can be read; :func:`display_scale` by default

Every function returns a new RGB uint8 picture of (scale * h, scale * w, 3).
"""
from dataclasses import replace
from typing import List, Mapping, Optional, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..labels import INSTANCE_OFFSET, LabelSpace
from ..ops.run_length import index_map
from .colors import segment_colors
from .text import (Tag, display_names, draw_tags, find_edges, font_size,
                   get_font, keep_apart, place_names, text_size)

#: Images with a longer side below this many pixels are enlarged; of results
#: that are written as files.
MIN_DISPLAY_SIZE, OVERLAY_SIZE = 480, 960

#: How much of the photograph's own colour is taken out under a segment.
_GREY = 0.6

#: Void stays the photograph, darkened; every second stripe a little less.
_VOID_DARK, _VOID_STRIPE = 0.34, 0.56

#: Background and text of :func:`side_by_side`.
_PAPER, _INK = 'white', (45, 45, 50)


def display_scale(shape: Sequence[int],
                  min_size: int = MIN_DISPLAY_SIZE) -> int:
    """How many times an image of (h, w, ...) pixels is enlarged."""
    return max(1, -(-min_size // max(shape[0], shape[1], 1)))


def line_width(shape: Sequence[int]) -> int:
    """Width in pixels of outlines in a picture of (h, w, ...) pixels."""
    return int(np.clip(round(np.sqrt(shape[0] * shape[1]) / 400), 1, 3))


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """A copy of a photograph, enlarged ``scale`` times, smoothly."""
    return cv2.resize(
        image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def draw_panoptic(image: np.ndarray,
                  panoptic: np.ndarray,
                  space: LabelSpace,
                  notes: Optional[Mapping[int, str]] = None,
                  alpha: float = 0.6,
                  names: bool = True,
                  scale: Optional[int] = None) -> np.ndarray:
    """Draw a panoptic map: colours, outlines, names."""
    # ground truth may number instances that nobody evaluates: void, too
    void = panoptic % INSTANCE_OFFSET == space.void
    codes, _, index = index_map(np.where(void, space.void, panoptic))
    scale = scale or display_scale(image.shape)
    image = enlarge(image, scale)
    index = index.repeat(scale, 0).repeat(scale, 1) if scale > 1 else index

    labels = codes % INSTANCE_OFFSET
    known = labels != space.void
    colors = np.zeros((len(codes), 3), np.uint8)
    colors[known] = segment_colors(codes[known], space.palette,
                                   space.num_things)
    picture = _blend(image, index, colors, ~known, alpha)
    picture = _outline(picture, index, labels < space.num_things)
    if not names:
        return picture
    texts: List[List[str]] = [[] for _ in codes]
    short = display_names(space.names)
    for i in np.flatnonzero(known):
        note = (notes or {}).get(int(codes[i]))
        name = short[labels[i]]
        texts[i] = [f'{name} {note}', name] if note else [name]
    return draw_tags(picture, place_names(index, texts,
                                          font_size(image.shape)))


def draw_semantic(image: np.ndarray,
                  semantic: np.ndarray,
                  space: LabelSpace,
                  scale: Optional[int] = None) -> np.ndarray:
    """Draw a semantic map like :func:`draw_panoptic`, one colour per class."""
    inside = (semantic >= 0) & (semantic < space.num_classes)
    only_stuff = LabelSpace([
        replace(category, id=label, isthing=False)
        for label, category in enumerate(space.categories)
    ])
    return draw_panoptic(
        image, np.where(inside, semantic, space.void), only_stuff, scale=scale)


def draw_instances(image: np.ndarray,
                   bboxes: np.ndarray,
                   labels: np.ndarray,
                   space: LabelSpace,
                   masks: Optional[np.ndarray] = None,
                   notes: Sequence[str] = (),
                   alpha: float = 0.5,
                   scale: Optional[int] = None) -> np.ndarray:
    """Draw boxes, masks and names; small instances lie on top."""
    scale = scale or display_scale(image.shape)
    picture = enlarge(image, scale)
    bboxes = np.asarray(bboxes, np.float32).reshape(-1, 4)
    labels = np.asarray(labels, np.int64)
    codes = labels + INSTANCE_OFFSET * (1 + np.arange(len(labels)))
    colors = segment_colors(codes, space.palette, space.num_classes)
    areas = (bboxes[:, 2:] - bboxes[:, :2]).prod(1)
    order = np.argsort(-areas, kind='stable')
    for i in order if masks is not None else ():
        _fill_mask(picture, masks[i], bboxes[i], colors[i], scale, alpha)
    for i in order:
        x1, y1, x2, y2 = np.rint(bboxes[i] * scale).astype(int).tolist()
        edge = np.rint(0.75 * colors[i].astype(np.float32) + 0.25 * 255)
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), edge.tolist(),
                      line_width(picture.shape), cv2.LINE_8)
    short = display_names(space.names)
    size = max(11, round(0.8 * font_size(picture.shape)))
    tags = []
    for i in order:
        text = f'{short[labels[i]]} {notes[i] if len(notes) else ""}'.rstrip()
        width, height = text_size(text, size)
        x, y = bboxes[i, :2] * scale
        tags.append(Tag(text, x + width / 2 + 1, y + height / 2 + 1, size))
    return draw_tags(picture, keep_apart(tags, picture.shape))


def side_by_side(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Panels (h, w_i, 3) of one height side by side on white, each below its
    caption: (h + caption, sum of w_i + gaps, 3)."""
    height, width = next(iter(panels.values())).shape[:2]
    size = font_size((height, width)) + 2
    strip, gap = int(1.9 * size), max(6, round(0.5 * size))
    total = gap + sum(panel.shape[1] + gap for panel in panels.values())
    canvas = Image.new('RGB', (total, strip + height + gap), _PAPER)
    draw, x = ImageDraw.Draw(canvas), gap
    for caption, panel in panels.items():
        canvas.paste(Image.fromarray(panel), (x, strip))
        fitted, room = size, panel.shape[1]
        while fitted > 6 and get_font(fitted).getlength(caption) > room:
            fitted -= 1
        draw.text((x + room / 2, strip / 2),
                  caption,
                  font=get_font(fitted),
                  anchor='mm',
                  fill=_INK)
        x += room + gap
    return np.asarray(canvas).copy()


def _blend(image: np.ndarray, index: np.ndarray, colors: np.ndarray,
           is_void: np.ndarray, alpha: float) -> np.ndarray:
    """Mix colours into the photograph; void is the photograph, hatched."""
    # Greyed: the colour of a segment is then the class's, not the photo's.
    grey = cv2.cvtColor(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    muted = cv2.addWeighted(image, 1 - _GREY, grey, _GREY, 0)
    picture = cv2.addWeighted(muted, 1 - alpha, colors[index], alpha, 0)
    ys, xs = np.nonzero(is_void[index])
    period = 6 * line_width(image.shape)
    stripe = (xs + ys) % period < period // 3
    factor = np.where(stripe, _VOID_STRIPE, _VOID_DARK)[:, None]
    picture[ys, xs] = image[ys, xs] * factor
    return picture


def _outline(picture: np.ndarray, index: np.ndarray,
             things: np.ndarray) -> np.ndarray:
    """Draw the borders between segments: bright around things."""
    edges = find_edges(index)
    thing = things[index]
    bright = edges & (thing | np.roll(thing, -1, 0) | np.roll(thing, -1, 1))
    kernel = np.ones((line_width(picture.shape), ) * 2, np.uint8)
    edges = cv2.dilate(edges.view(np.uint8), kernel).view(bool)
    bright = cv2.dilate(bright.view(np.uint8), kernel).view(bool)
    picture[edges] = (picture[edges] * 0.45).astype(np.uint8)
    picture[bright] = (255, 255, 255)
    return picture


def _fill_mask(picture: np.ndarray, mask: np.ndarray, bbox: np.ndarray,
               color: np.ndarray, scale: int, alpha: float) -> None:
    """Blend one mask into ``picture``, in the window of its box."""
    h, w = mask.shape
    x1, y1 = np.floor(bbox[:2]).clip(0).astype(int)
    x2, y2 = np.ceil(bbox[2:]).clip(0, (w, h)).astype(int)
    if x1 >= x2 or y1 >= y2:
        return
    crop = np.asarray(mask[y1:y2, x1:x2], bool)
    crop = crop.repeat(scale, 0).repeat(scale, 1)
    window = picture[y1 * scale:y2 * scale, x1 * scale:x2 * scale]
    mixed = window[crop] * (1 - alpha) + color * np.float32(alpha)
    window[crop] = mixed.astype(np.uint8)
    contours, _ = cv2.findContours(
        np.pad(crop, 1).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(
        window,
        contours,
        -1, (255, 255, 255),
        line_width(picture.shape),
        offset=(-1, -1))
