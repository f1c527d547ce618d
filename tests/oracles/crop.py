"""Oracle: the pixel of a drawn class, by looking at every pixel."""
import numpy as np


def pixel_of_class(index_map, labels, values, drawn=None):
    """(y, x), or None where the map (h, w) has none of ``values``; ``labels``
    are their classes, ``drawn`` the class to look for where the map has it."""
    labels, values = np.asarray(labels), np.asarray(values)
    present = sorted({
        label
        for label, value in zip(labels.tolist(), values.tolist())
        if (index_map == value).any()
    })
    if not present:
        return None
    if drawn not in present:
        drawn = np.random.choice(present)
    places = np.argwhere(np.isin(index_map, values[labels == drawn]))
    return tuple(places[np.random.randint(len(places))].tolist())
