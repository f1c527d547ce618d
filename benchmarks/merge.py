"""From the networks' outputs to the final maps: ours beside mmdet's.

Both start from logits of the semantic branch at stride 4 and mask logits
28 x 28 with boxes, and end with masks of the original size and the panoptic
map; ours with the semantic map, too. mmdet's are ``BaseSemanticHead.predict``,
``FCNMaskHead.predict_by_feat`` and ``HeuristicFusionHead.predict``.

The time of ours depends on what the logits look like: pixels between two
classes cost more than those inside of one. The logits are made of smooth
regions with blurred boundaries, a smooth field for each class and noise; a
row with nothing but noise is the worst case.
"""
import sys
from dataclasses import dataclass
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import torch

from benchmarks import harness
from panoptic_apps.check_gpu.scenes import semantic_logits

THRESHOLDS = dict(overlap=0.5, stuff_area=4096)
STRIDE = 4
Size = Tuple[int, int]


@dataclass(frozen=True)
class Case:
    """Sizes (h, w) and contents of an image.

    Args:
        original (tuple[int, int]): Of the file.
        image (tuple[int, int]): As the network sees it.
        padded (tuple[int, int]): To a multiple of 32.
        instances (int): Detections, all above the merge's threshold.
        num_things, num_stuff (int): Classes; the semantic branch has
            ``num_stuff + 1`` channels.
        regions (int): Of the semantic map, about.
        noise (float): Standard deviation, beside 6 between classes.
    """
    original: Size
    image: Size
    padded: Size
    instances: int
    num_things: int
    num_stuff: int
    regions: int
    noise: float = 0.3

    @property
    def channels(self) -> int:
        return self.num_stuff + 1

    def __str__(self) -> str:
        h, w = self.original
        text = f'{w}x{h}'
        if self.image != self.original:
            text += f' from {self.image[1]}x{self.image[0]}'
        text += f', {self.instances} instances, {self.channels} channels'
        return text + (', noise alone' if not self.regions else '')


CITYSCAPES = Case((1024, 2048), (1024, 2048), (1024, 2048), 60, 8, 11, 40)
SMALL = Case((480, 640), (480, 640), (480, 640), 20, 80, 53, 12)
COCO = Case((480, 640), (800, 1067), (800, 1088), 20, 80, 53, 12)
CASES = ((CITYSCAPES, 10.), (SMALL, 4.), (COCO, 4.),
         (Case(**dict(vars(CITYSCAPES), regions=0)),
          None), (Case(**dict(vars(COCO), regions=0)), None))


class Outputs(NamedTuple):
    """Of the networks for one image."""
    logits: torch.Tensor
    mask_logits: torch.Tensor
    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    meta: dict


def network_outputs(case: Case, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    number, (height, width) = case.instances, case.original
    sides = torch.tensor([0.06 * width, 0.14 * height]) * torch.exp(
        0.6 * torch.randn(number, 2, generator=generator))
    centers = torch.rand(
        number, 2, generator=generator) * torch.tensor([width, height])
    corners = torch.stack([centers - sides / 2, centers + sides / 2], 1)
    corners = corners.clamp(min=0).minimum(torch.tensor([width, height]))
    factors = tuple(a / b
                    for a, b in zip(case.image[::-1], case.original[::-1]))
    # ellipses with ragged borders
    side = torch.linspace(-1, 1, 28)
    ellipse = 6 * (0.9 - side[:, None]**2 - side**2)
    ragged = torch.randn(
        number, case.num_things, 28, 28, generator=generator) / 2
    logits = semantic_logits(case.channels,
                             tuple(side // STRIDE for side in case.padded),
                             case.regions, generator, case.noise)
    return Outputs(
        logits, ellipse + ragged, (corners * torch.tensor(factors)).flatten(1),
        0.5 + 0.5 * torch.rand(number, generator=generator),
        torch.randint(case.num_things, (number, ), generator=generator),
        dict(
            batch_input_shape=case.padded,
            img_shape=case.image,
            ori_shape=case.original,
            scale_factor=factors))


def merge_of_ours(case: Case) -> Callable[[Outputs], torch.Tensor]:
    """Panoptic map (h, w) of ours."""
    from panoptic_fpn.models import (PanopticFusionHead, SemanticFPNHead,
                                     WindowedMaskHead)

    class GivenLogits(SemanticFPNHead):
        forward = staticmethod(lambda logits: logits)

    semantic_head = GivenLogits(
        case.num_things, case.num_stuff, in_channels=[32] * 4, channels=32)
    mask_head = WindowedMaskHead(num_convs=0, num_classes=case.num_things)
    merge = PanopticFusionHead(
        case.num_things,
        case.num_stuff,
        test_cfg=dict(
            overlap_thr=THRESHOLDS['overlap'],
            stuff_area=THRESHOLDS['stuff_area']))

    def run(outputs: Outputs) -> torch.Tensor:
        instances = pasted(mask_head, outputs)
        channels, = semantic_head.predict_channels(outputs.logits,
                                                   [outputs.meta])
        return merge.predict(instances, channels, False, case.original)[0]

    return torch.no_grad()(run)


def merge_of_mmdet(case: Case) -> Callable[[Outputs], torch.Tensor]:
    """Panoptic map (h, w) of mmdet."""
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmdet.models.seg_heads import HeuristicFusionHead, PanopticFPNHead
    from mmengine.config import ConfigDict

    class GivenLogits(PanopticFPNHead):
        forward = staticmethod(lambda logits: dict(seg_preds=logits))

    semantic_head = GivenLogits(
        case.num_things, case.num_stuff, in_channels=32, inner_channels=32)
    mask_head = FCNMaskHead(num_convs=0, num_classes=case.num_things)
    merge = HeuristicFusionHead(
        case.num_things,
        case.num_stuff,
        test_cfg=ConfigDict(
            mask_overlap=THRESHOLDS['overlap'],
            stuff_area_limit=THRESHOLDS['stuff_area']))

    def run(outputs: Outputs) -> torch.Tensor:
        instances = pasted(mask_head, outputs)
        logits = semantic_head.predict(
            outputs.logits, [outputs.meta], rescale=True)
        return merge.predict([instances], logits)[0].sem_seg[0]

    return torch.no_grad()(run)


def pasted(mask_head, outputs: Outputs):
    """Instances with masks of the original size."""
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData
    instances = InstanceData(
        # the head brings them to the original size in place
        bboxes=outputs.boxes.clone(),
        scores=outputs.scores,
        labels=outputs.labels)
    return mask_head.predict_by_feat([outputs.mask_logits], [instances],
                                     [outputs.meta],
                                     ConfigDict(mask_thr_binary=0.5),
                                     rescale=True)[0]


SIDES: Dict[str, Callable] = dict(ours=merge_of_ours, theirs=merge_of_mmdet)


def prepare(side: str, case: Case, seed: int) -> Callable:
    """A side's merge of an image, for its peak memory."""
    merge = SIDES[side](case)
    outputs = network_outputs(case, seed)
    # code and tables that stay
    tiny = Case((32, 32), (32, 32), (32, 32), 2, case.num_things,
                case.num_stuff, 2)
    SIDES[side](tiny)(network_outputs(tiny, seed))
    return lambda: merge(outputs)


def measure_case(case: Case, ask: Optional[float], rounds: int,
                 seed: int) -> harness.Row:
    """Seconds, peak memory and agreement of an image."""
    outputs = network_outputs(case, seed)
    merges = {side: make(case) for side, make in SIDES.items()}
    maps = {side: merge(outputs) for side, merge in merges.items()}
    same = (maps['ours'] == maps['theirs']).double().mean().item()
    seconds = harness.alternate(
        {
            side: lambda merge=merge: merge(outputs)
            for side, merge in merges.items()
        }, rounds)
    peaks = {
        side: harness.peak_bytes(prepare, side, case, seed)
        for side in SIDES
    }
    return harness.Row(
        stage='merge',
        case=str(case),
        ours=seconds['ours'],
        theirs=seconds['theirs'],
        ask=ask,
        ours_bytes=peaks['ours'],
        theirs_bytes=peaks['theirs'],
        note=f'{100 * same:.6g} % of the panoptic pixels are the same; mmdet '
        'has no score threshold of the merge (all detections are above ours '
        'here) and returns no semantic map')


def measure(rounds: int, seed: int = 0) -> List[harness.Row]:
    """Rows of a street and of a photograph, on all cores."""
    return [measure_case(case, ask, rounds, seed) for case, ask in CASES]


if __name__ == '__main__':
    sys.exit(harness.stage_main(measure, __doc__))
