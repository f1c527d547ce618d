"""Boundary regions of all segments of a map at once.

A pixel is in the boundary region of its segment where the image ends or
another segment begins within ``distance`` pixels, rows and columns counted
alike (chessboard distance): the segment without its erosion by a square.
"""
import cv2
import numpy as np


def boundary_distance(height: int, width: int) -> int:
    """Width of a boundary region in pixels: 2 % of the image's diagonal, at
    least 1 (Cheng et al., 'Boundary IoU', 2021)."""
    return max(1, round(0.02 * float(np.hypot(height, width))))


def boundary_regions(segments: np.ndarray, distance: int) -> np.ndarray:
    """Pixels of a map (h, w) of segments that are near the border of theirs.

    The corners where not all of the four pixels around belong to one segment
    are widened to squares: the time does not depend on the number of segments.

    Args:
        segments (np.ndarray): (h, w), values that differ between segments.
        distance (int): Width of a region in pixels, at least 1.

    Returns:
        np.ndarray: uint8 (h, w), 1 in a boundary region.
    """
    h, w = segments.shape
    corners = np.ones((h + 1, w + 1), bool)
    across = segments[:, 1:] != segments[:, :-1]
    down = segments[1:] != segments[:-1]
    corners[1:-1, 1:-1] = across[1:] | across[:-1] | down[:, 1:] | down[:, :-1]
    # pixel (y, x) lies between the corners (y, x) and (y + 1, x + 1)
    size = 2 * distance
    return cv2.dilate(
        corners.view(np.uint8),
        np.ones((size, size), np.uint8),
        anchor=(distance - 1, distance - 1))[:-1, :-1]
