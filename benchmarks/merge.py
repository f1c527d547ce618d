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
from dataclasses import dataclass, replace
from typing import Callable, List, NamedTuple, Optional

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from benchmarks import harness
from panoptic_apps.check_gpu import scenes
from panoptic_apps.check_gpu.parts import config_of
from panoptic_apps.check_gpu.scenes import Size
from panoptic_apps.check_gpu.units import STRIDE, Heads, meta_of

SIDES = dict(ours='ours', theirs='mmdet')


@dataclass(frozen=True)
class Case:
    """Sizes (h, w) and contents of an image.

    Args:
        original (tuple[int, int]): Of the file.
        image (tuple[int, int]): As the network sees it.
        instances (int): Detections, all above the merge's threshold.
        num_things, num_stuff (int): Classes; the semantic branch has
            ``num_stuff + 1`` channels.
        regions (int): Of the semantic map, about; 0: noise alone.
    """
    original: Size
    image: Size
    instances: int
    num_things: int
    num_stuff: int
    regions: int

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


CITYSCAPES = Case((1024, 2048), (1024, 2048), 60, 8, 11, 40)
SMALL = Case((480, 640), (480, 640), 20, 80, 53, 12)
COCO = Case((480, 640), (800, 1067), 20, 80, 53, 12)
CASES = ((CITYSCAPES, 10.), (SMALL, 4.), (COCO, 4.),
         (replace(CITYSCAPES, regions=0), None), (replace(COCO,
                                                          regions=0), None))


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
    meta = meta_of(case.image, case.original)
    logits = scenes.semantic_logits(
        case.channels,
        tuple(side // STRIDE for side in meta['batch_input_shape']),
        case.regions, generator)
    return Outputs(
        logits, ellipse + ragged, (corners * torch.tensor(factors)).flatten(1),
        0.5 + 0.5 * torch.rand(number, generator=generator),
        torch.randint(case.num_things, (number, ), generator=generator),
        dict(meta, scale_factor=factors))


def merge_of(side: str, case: Case) -> Callable[[Outputs], torch.Tensor]:
    """Outputs to the panoptic map (h, w) of 'ours' or 'mmdet'."""
    init_default_scope('mmdet')
    space = scenes.label_space(case.num_things, case.num_stuff)
    model = config_of(replace(scenes.COCO, space=space), side).model
    heads = Heads(model, side)
    mask_head = MODELS.build(model.roi_head.mask_head)

    @torch.no_grad()
    def run(outputs: Outputs) -> torch.Tensor:
        instances = InstanceData(
            # the head brings them to the original size in place
            bboxes=outputs.boxes.clone(),
            scores=outputs.scores,
            labels=outputs.labels)
        pasted, = mask_head.predict_by_feat([outputs.mask_logits], [instances],
                                            [outputs.meta],
                                            ConfigDict(mask_thr_binary=0.5),
                                            rescale=True)
        semantic = heads.semantic_map(outputs.logits, outputs.meta)
        return heads.merge(pasted, semantic, case.original)

    return run


def prepare(side: str, case: Case, seed: int) -> Callable:
    """A side's merge of an image, for its peak memory."""
    merge = merge_of(SIDES[side], case)
    outputs = network_outputs(case, seed)
    # code and tables that stay
    tiny = replace(
        case, original=(32, 32), image=(32, 32), instances=2, regions=2)
    merge_of(SIDES[side], tiny)(network_outputs(tiny, seed))
    return lambda: merge(outputs)


def measure_case(case: Case, ask: Optional[float], rounds: int,
                 seed: int) -> harness.Row:
    """Seconds, peak memory and agreement of an image."""
    outputs = network_outputs(case, seed)
    merges = {side: merge_of(name, case) for side, name in SIDES.items()}
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
