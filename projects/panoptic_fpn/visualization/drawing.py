"""Panoptic maps, instances and semantic maps drawn over a photograph.

image      RGB uint8 (h, w, 3); never changed
panoptic   (h, w) integers ``label + 1000 * number``, void = T + S
semantic   (h, w) integers, a label; anything outside 0 .. T+S-1 is void
bboxes     (n, 4) x1, y1, x2, y2 in pixels of the image
masks      (n, h, w) bool

Every function returns a new RGB uint8 picture of (s * h, s * w, 3): small
images are enlarged ``s`` times (:func:`display_scale`) so that outlines and
names can be read.
"""
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple

import cv2
import numpy as np

from ..labels import INSTANCE_OFFSET
from .colors import compact, segment_colors, tint
from .text import (Tag, display_names, draw_tags, find_edges, font_size,
                   place_names, text_size)

#: Images with a longer side below this many pixels are enlarged.
MIN_DISPLAY_SIZE = 480

#: How much of the photograph's own colour is taken out under a segment.
_GREY = 0.6

#: Void stays the photograph, darkened; every second stripe a little less.
_VOID_DARK, _VOID_STRIPE = 0.34, 0.56


def display_scale(shape: Tuple[int, int],
                  min_size: int = MIN_DISPLAY_SIZE) -> int:
    """How many times an image of (h, w) pixels is enlarged."""
    return max(1, -(-min_size // max(shape[0], shape[1], 1)))


def line_width(shape: Tuple[int, int]) -> int:
    """Width in pixels of outlines in a picture of (h, w) pixels."""
    return int(np.clip(round(np.sqrt(shape[0] * shape[1]) / 400), 1, 3))


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge a photograph ``scale`` times, smoothly."""
    if scale == 1:
        return image
    return cv2.resize(
        image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def draw_panoptic(image: np.ndarray,
                  panoptic: np.ndarray,
                  classes: Sequence[str],
                  palette: Sequence[Sequence[int]],
                  num_things: int,
                  notes: Optional[Mapping[int, str]] = None,
                  alpha: float = 0.6,
                  names: bool = True,
                  scale: Optional[int] = None) -> np.ndarray:
    """Draw a panoptic map: colours, outlines, names.

    Args:
        image (np.ndarray): RGB uint8 of shape (h, w, 3).
        panoptic (np.ndarray): Codes of shape (h, w).
        classes (Sequence[str]): Name of each label; their number is void.
        palette (Sequence[Sequence[int]]): RGB colour of each label.
        num_things (int): Labels below it are things.
        notes (Mapping[int, str], optional): What follows the name of a
            segment, by its code: a score, 'crowd'.
        alpha (float): Opacity of the colours.
        names (bool): Whether to write names.
        scale (int, optional): Enlargement; :func:`display_scale` by default.

    Returns:
        np.ndarray: RGB uint8 of shape (scale * h, scale * w, 3).

    Raises:
        ValueError: Sizes that differ, or a code of no class.
    """
    _check_sizes(image, panoptic, 'panoptic map')
    void, notes = len(classes), notes or {}
    # ground truth may number instances that nobody evaluates: void, too
    index, codes = compact(
        np.where(panoptic % INSTANCE_OFFSET == void, void, panoptic))
    _check_codes(codes, void)
    scale = scale or display_scale(image.shape[:2])
    image = enlarge(image, scale)
    index = index.repeat(scale, 0).repeat(scale, 1) if scale > 1 else index

    known = codes != void
    colors = np.zeros((len(codes), 3), np.uint8)
    colors[known] = segment_colors(codes[known], palette, num_things)
    picture = _blend(image, index, colors, ~known, alpha)
    things = known & (codes % INSTANCE_OFFSET < num_things)
    picture = _outline(picture, index, colors, things)
    if not names:
        return picture
    short, texts = display_names(classes), []
    for code in codes.tolist():
        name = [] if code == void else [short[code % INSTANCE_OFFSET]]
        texts.append([f'{name[0]} {notes[code]}'] +
                     name if code in notes and name else name)
    return draw_tags(picture,
                     place_names(index, texts, font_size(picture.shape[:2])))


def draw_semantic(image: np.ndarray,
                  semantic: np.ndarray,
                  classes: Sequence[str],
                  palette: Sequence[Sequence[int]],
                  alpha: float = 0.6,
                  names: bool = True,
                  scale: Optional[int] = None) -> np.ndarray:
    """Draw a semantic map: as :func:`draw_panoptic`, one colour a class.

    Args:
        image (np.ndarray): RGB uint8 of shape (h, w, 3).
        semantic (np.ndarray): Labels of shape (h, w); values outside
            0 .. len(classes) - 1 (-1, 255) are void.
        classes (Sequence[str]): Name of each label.
        palette (Sequence[Sequence[int]]): RGB colour of each label.
        alpha (float): Opacity of the colours.
        names (bool): Whether to write names.
        scale (int, optional): Enlargement; :func:`display_scale` by default.

    Returns:
        np.ndarray: RGB uint8 of shape (scale * h, scale * w, 3).
    """
    semantic = np.asarray(semantic)
    inside = (semantic >= 0) & (semantic < len(classes))
    return draw_panoptic(image, np.where(inside, semantic, len(classes)),
                         classes, palette, 0, None, alpha, names, scale)


def draw_instances(image: np.ndarray,
                   bboxes: np.ndarray,
                   labels: np.ndarray,
                   classes: Sequence[str],
                   palette: Sequence[Sequence[int]],
                   masks: Optional[np.ndarray] = None,
                   scores: Optional[np.ndarray] = None,
                   alpha: float = 0.5,
                   names: bool = True,
                   scale: Optional[int] = None) -> np.ndarray:
    """Draw boxes, masks, names and scores; small instances lie on top.

    Args:
        image (np.ndarray): RGB uint8 of shape (h, w, 3).
        bboxes (np.ndarray): Float of shape (n, 4), x1, y1, x2, y2.
        labels (np.ndarray): Integers of shape (n, ).
        classes (Sequence[str]): Name of each label.
        palette (Sequence[Sequence[int]]): RGB colour of each label.
        masks (np.ndarray, optional): Bool of shape (n, h, w).
        scores (np.ndarray, optional): Float of shape (n, ).
        alpha (float): Opacity of the masks.
        names (bool): Whether to write names and scores.
        scale (int, optional): Enlargement; :func:`display_scale` by default.

    Returns:
        np.ndarray: RGB uint8 of shape (scale * h, scale * w, 3).
    """
    scale = scale or display_scale(image.shape[:2])
    picture = enlarge(image, scale).copy()
    bboxes = np.asarray(bboxes, np.float32).reshape(-1, 4)
    labels = np.asarray(labels, np.int64)
    colors = segment_colors(
        labels + INSTANCE_OFFSET * (1 + np.arange(len(labels))), palette,
        len(classes))
    areas = (bboxes[:, 2:] - bboxes[:, :2]).prod(1)
    order = np.argsort(-areas, kind='stable')
    width = line_width(picture.shape[:2])
    for i in order if masks is not None else ():
        _fill_mask(picture, masks[i], bboxes[i], colors[i], scale, alpha)
    edges = tint(colors, 0.25)
    for i in order:
        x1, y1, x2, y2 = np.rint(bboxes[i] * scale).astype(int).tolist()
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), edges[i].tolist(),
                      width, cv2.LINE_8)
    if not names:
        return picture
    short = display_names(classes)
    texts = [short[label] for label in labels]
    if scores is not None:
        texts = [f'{t} {s:.2f}' for t, s in zip(texts, scores)]
    return draw_tags(
        picture, _corner_tags(bboxes * scale, texts, order, picture.shape[:2]))


def _check_sizes(image: np.ndarray, panoptic: np.ndarray, what: str) -> None:
    if image.shape[:2] != panoptic.shape:
        raise ValueError(
            f'the {what} is {panoptic.shape} (h, w) and the image '
            f'{image.shape[:2]}; draw maps at the size of the image.')


def _check_codes(codes: np.ndarray, void: int) -> None:
    bad = codes[(codes % INSTANCE_OFFSET >= void) & (codes != void)]
    if len(bad):
        raise ValueError(
            f'the panoptic map holds {bad[0]}, whose label '
            f'{bad[0] % INSTANCE_OFFSET} is none of the {void} classes; draw '
            'it with the classes it was made with.')


def _blend(image: np.ndarray, index: np.ndarray, colors: np.ndarray,
           is_void: np.ndarray, alpha: float) -> np.ndarray:
    """Lay colours over the photograph; void is the photograph, hatched."""
    # Greyed: the colour of a segment is then the class's, not the photo's.
    grey = cv2.cvtColor(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    muted = cv2.addWeighted(image, 1 - _GREY, grey, _GREY, 0)
    picture = cv2.addWeighted(muted, 1 - alpha, colors[index], alpha, 0)
    void = is_void[index]
    if void.any():
        ys, xs = np.nonzero(void)
        period = 6 * line_width(image.shape[:2])
        stripe = (xs + ys) % period < period // 3
        factor = np.where(stripe, _VOID_STRIPE, _VOID_DARK)[:, None]
        picture[ys, xs] = image[ys, xs] * factor
    return picture


def _outline(picture: np.ndarray, index: np.ndarray, colors: np.ndarray,
             things: np.ndarray) -> np.ndarray:
    """Draw the borders between segments: bright around things."""
    width = line_width(picture.shape[:2])
    edges = find_edges(index)
    thing = things[index]
    bright = edges & (thing | np.roll(thing, -1, 0) | np.roll(thing, -1, 1))
    if width > 1:
        kernel = np.ones((width, width), np.uint8)
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
        line_width(picture.shape[:2]),
        offset=(-1, -1))


def _corner_tags(bboxes: np.ndarray, texts: Sequence[str],
                 order: Iterable[int], shape: Tuple[int, int]) -> list:
    """Tags at the upper left corners of boxes, none over another."""
    size = max(11, round(0.8 * font_size(shape)))
    tags: List[Tag] = []
    for i in order:
        width, height = text_size(texts[i], size)
        tag = Tag(texts[i], bboxes[i, 0] + width / 2 + 1,
                  bboxes[i, 1] + height / 2 + 1, size)
        if not tag.fits(shape):
            continue
        tag = tag.inside(shape)
        if not any(tag.overlaps(other) for other in tags):
            tags.append(tag)
    return tags
