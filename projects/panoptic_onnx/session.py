"""An exported model run by onnxruntime: image in, panoptic result out.

trunk   image (1, 3, H, W) -> FPN levels ``feature0``.. (1, C, h, w), RPN's
        ``rpn_score0``.. (1, A, h, w) and ``rpn_delta0``.. (1, 4 A, h, w) of
        each level, ``semantic`` (1, K, H/4, W/4); what the model has of them
boxes   a level and boxes (n, 4) in its pixels -> ``scores`` (n, T + 1), last
        one background, and ``deltas`` (n, 4 T), or (n, 4)
masks   the same -> ``probabilities`` (n, T, 28, 28), or (n, 1, 28, 28)

All float32, by ONNX's own operators, RoIAlign too.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import onnxruntime

from .boxes import batched_nms, decode, grid_anchors, roi_levels
from .maps import fill_stuff, paste_instances, paste_masks, upsampled_argmax
from .model_file import DeployError, Preprocessing, read_model

#: Arrays by name.
Arrays = Dict[str, np.ndarray]
Shape = Tuple[int, int]


@dataclass
class Result:
    """What was found on an image, at its own size (h, w).

    panoptic   int32 (h, w): label + 1000 * number, void = number of classes
    kept       for number i + 1 of the map the index of its instance
    boxes      (n, 4), x1, y1, x2, y2 in pixels, the most confident first; also
               of instances that are not on the map, as scores (n, ), labels
               (n, ) and masks, bool (n, h, w)
    semantic   channel of each pixel (h, w); None without the branch
    """

    panoptic: np.ndarray
    kept: List[int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    semantic: Optional[np.ndarray]


def prepare(image: np.ndarray,
            settings: Preprocessing) -> Tuple[np.ndarray, Shape]:
    """Resize, normalize and pad an image, BGR uint8 (h, w, 3).

    Returns:
        tuple[np.ndarray, tuple[int, int]]: float32 (1, 3, H, W), and (h, w)
        of the image on it; the rest is padding.

    Raises:
        DeployError: It is not an image.
    """
    if (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3
            or not image.size):
        raise DeployError(f'{image.dtype} of shape {image.shape} is not an '
                          'image. Give BGR uint8 of shape (h, w, 3).')
    shape = settings.scale[1], settings.scale[0]
    if settings.keep_ratio:  # the longer and the shorter side, in any order
        factor = min(
            max(shape) / max(image.shape[:2]),
            min(shape) / min(image.shape[:2]))
        height, width = (
            max(1, int(s * factor + 0.5)) for s in image.shape[:2])
        shape = height, width
    pixels = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    if settings.to_rgb:
        pixels = pixels[..., ::-1]
    pixels = pixels.astype(np.float32)
    mean, std = np.array([settings.mean, settings.std], np.float32)
    pixels = (pixels - mean) / std
    padded = [
        -(-side // settings.divisor) * settings.divisor for side in shape
    ]
    inputs = np.full((1, 3, *padded), settings.pad_value, np.float32)
    inputs[0, :, :shape[0], :shape[1]] = pixels.transpose(2, 0, 1)
    return inputs, shape


class PanopticSession:
    """Runs an exported model.

    Args:
        folder (str): Written by ``tools/export_onnx.py``.
        providers (Sequence[str]): onnxruntime's, the preferred first.
        threads (int): Threads of an operator; 0 for one per core.

    Raises:
        DeployError: The folder cannot be used, or there is no such provider.
    """

    def __init__(self,
                 folder: str,
                 providers: Sequence[str] = ('CPUExecutionProvider', ),
                 threads: int = 0) -> None:
        self.model = read_model(folder)
        unknown = set(providers) - set(onnxruntime.get_available_providers())
        if unknown:
            raise DeployError(
                f'This onnxruntime has no {sorted(unknown)}; it has '
                f'{onnxruntime.get_available_providers()}.')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # allocations are planned for one size; those of images differ
        options.enable_mem_pattern = False
        self.sessions: Dict[str, onnxruntime.InferenceSession] = {
            name:
            onnxruntime.InferenceSession(
                str(Path(folder) / f'{name}.onnx'),
                options,
                providers=list(providers))
            for name in self.model.graphs
        }

    def segment(self, image: np.ndarray) -> Result:
        """Segment an image, BGR uint8 (h, w, 3) of any size.

        Raises:
            DeployError: It is not an image.
        """
        model = self.model
        inputs, shape = prepare(image, model.preprocessing)
        original = image.shape[:2]
        outputs = self.run('trunk', image=inputs)
        boxes, scores, labels, probabilities = self._instances(outputs, shape)
        # they were multiplied by (w, h)
        boxes = boxes / np.array(
            [shape[1] / original[1], shape[0] / original[0]] * 2, np.float32)
        threshold = model.masks.threshold if model.masks else 0
        masks = paste_masks(probabilities, boxes, original, threshold)
        semantic = None
        if model.semantic:
            semantic = upsampled_argmax(outputs['semantic'][0],
                                        inputs.shape[2:], shape, original)
        # the merge (section 3.2)
        merge = model.panoptic
        panoptic, kept = paste_instances(masks, boxes, scores, labels,
                                         merge.score_thr, merge.overlap_thr,
                                         model.void, merge.nms_iou_thr)
        if semantic is not None:
            fill_stuff(panoptic, semantic, model.semantic.channel_labels,
                       merge.stuff_area, model.void)
        return Result(panoptic, kept, boxes, scores, labels, masks, semantic)

    def run(self, graph: str, **inputs: np.ndarray) -> Arrays:
        """Outputs of a graph by their names."""
        session = self.sessions[graph]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs)))

    def _instances(self, outputs: Arrays,
                   shape: Shape) -> Tuple[np.ndarray, ...]:
        """Boxes in pixels of the network's input, scores, labels and mask
        probabilities (n, m, m) of the detections."""
        if self.model.rpn is None:
            return (np.zeros((0, 4), np.float32), np.zeros(0, np.float32),
                    np.zeros(0, np.int64), np.zeros((0, 1, 1), np.float32))
        proposals = self._proposals(outputs, shape)
        boxes, scores, labels = self._detections(outputs, proposals, shape)
        masks = self._on_levels('masks', outputs, boxes)['probabilities']
        if self.model.masks.class_agnostic:
            return boxes, scores, labels, masks[:, 0]
        return boxes, scores, labels, masks[np.arange(len(labels)), labels]

    def _proposals(self, outputs: Arrays, shape: Shape) -> np.ndarray:
        """RPN's boxes (n, 4)."""
        rpn = self.model.rpn
        found = []
        for level, (base, stride) in enumerate(zip(rpn.anchors, rpn.strides)):
            score = outputs[f'rpn_score{level}'][0]
            delta = outputs[f'rpn_delta{level}'][0]
            grid = grid_anchors(
                np.asarray(base, np.float32), stride, score.shape[1:])
            score = score.transpose(1, 2, 0).reshape(-1)
            delta = delta.transpose(1, 2, 0).reshape(-1, 4)
            if 0 < rpn.nms_pre < len(score):
                best = np.argsort(-score, kind='stable')[:rpn.nms_pre]
                grid, score, delta = grid[best], score[best], delta[best]
            found.append((grid, delta, score, np.full(len(score), level)))
        anchors, deltas, scores, levels = map(np.concatenate, zip(*found))
        boxes = decode(anchors, deltas, rpn.means, rpn.stds, shape)
        if rpn.min_bbox_size >= 0:
            sides = boxes[:, 2:] - boxes[:, :2]
            valid = (sides > rpn.min_bbox_size).all(axis=1)
            boxes, scores, levels = boxes[valid], scores[valid], levels[valid]
        kept = batched_nms(boxes, scores, levels, rpn.iou_thr)
        return boxes[kept[:rpn.max_per_img]]

    def _detections(self, outputs: Arrays, proposals: np.ndarray,
                    shape: Shape) -> Tuple[np.ndarray, ...]:
        """Boxes (n, 4), scores and labels (n, ) after NMS."""
        settings = self.model.boxes
        found = self._on_levels('boxes', outputs, proposals)
        scores = found['scores'][:, :-1]
        # decoded row by row, as mmdet does
        rows, labels = np.nonzero(scores > settings.score_thr)
        deltas = found['deltas']
        deltas = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4)
        picked = deltas[rows, 0 if settings.class_agnostic else labels]
        boxes = decode(proposals[rows], picked, settings.means, settings.stds,
                       shape)
        scores = scores[rows, labels]
        groups = labels * (not settings.joint_nms)
        kept = batched_nms(boxes, scores, groups, settings.iou_thr)
        if settings.max_per_img > 0:
            kept = kept[:settings.max_per_img]
        return boxes[kept], scores[kept], labels[kept]

    def _on_levels(self, graph: str, outputs: Arrays,
                   boxes: np.ndarray) -> Arrays:
        """Outputs of a head for boxes in pixels of the input, each from the
        FPN level of its size."""
        settings = getattr(self.model, graph)
        strides = settings.strides
        levels = roi_levels(boxes, settings.finest_scale, len(strides))
        found: Arrays = {}
        for level, stride in enumerate(strides):
            picked = levels == level
            # without boxes one level still gives the shapes
            if not picked.any() and (len(boxes) or level):
                continue
            part = self.run(
                graph,
                feature=outputs[f'feature{level}'],
                boxes=boxes[picked] / np.float32(stride))
            for name, values in part.items():
                if name not in found:
                    found[name] = np.zeros((len(boxes), *values.shape[1:]),
                                           np.float32)
                found[name][picked] = values
        return found
