"""Multi-scale and flipped inference of the semantic branch.

In    inputs[a][n]  (3, h, w), image n of the batch after augmentation a
Out   as ``TwoStagePanopticFPN.predict`` of a model with a semantic branch
      alone, from the probabilities (K, h, w) at the original size, flipped
      back and averaged over the augmentations

The sum of the probabilities and one augmentation's are held, whatever the
number of augmentations.
"""
from typing import Any, List, Optional, Sequence, Tuple, Union

import torch
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.model import BaseTTAModel
from torch import Tensor, nn

from mmengine_exact.errors import InputError

#: Axes of maps (..., h, w) that a flip reverses.
_FLIPPED = dict(horizontal=(-1, ), vertical=(-2, ), diagonal=(-2, -1))


@MODELS.register_module()
class SemanticTTAModel(BaseTTAModel):
    """Average of a semantic branch over test-time augmentations (Table 1b).

    ``tools/test.py --tta`` puts it around the model of a config, and
    ``tta_pipeline`` in the place of the test pipeline.

    Args:
        module (dict | nn.Module): A ``TwoStagePanopticFPN`` with
            ``loss_weights.instance=0``.
        class_balance (dict, optional): ``file`` and ``power`` of
            ``SemanticFPNHead.balance_classes``: each augmentation's
            probabilities are balanced before they are averaged.
        **kwargs: As mmengine's ``BaseTTAModel``.

    Raises:
        InputError: The model has a region branch or no semantic one, or
            the data were not augmented.
    """

    def __init__(self,
                 module: Union[dict, nn.Module],
                 class_balance: Optional[dict] = None,
                 **kwargs: Any) -> None:
        super().__init__(module, **kwargs)
        self._check_branches()
        if class_balance is not None:
            self.module.semantic_head.balance_classes(**class_balance)

    def _check_branches(self) -> None:
        name = type(self.module).__name__
        if getattr(self.module, 'semantic_head', None) is None:
            raise InputError(
                f'SemanticTTAModel: {name} has no semantic branch, and '
                "augmentations are averaged of that alone. Set tta_model.type="
                "'PanopticTTAModel', or leave --tta out.")
        if getattr(self.module, 'roi_head', None) is not None:
            raise InputError(
                f'SemanticTTAModel: {name} has a region branch, whose '
                'instances are not merged over augmentations. Set '
                "tta_model.type='PanopticTTAModel', or "
                'model.loss_weights.instance=0.')

    @torch.no_grad()
    def test_step(self, data: dict) -> SampleList:
        """Predict a batch that ``TestTimeAug`` augmented.

        Args:
            data (dict): ``inputs`` and ``data_samples``, for each
                augmentation a list over the images of the batch.

        Returns:
            list[:obj:`DetDataSample`]: Samples of the first augmentation with
            ``pred_sem_seg`` and ``pred_panoptic_seg`` at the original size.
        """
        batches = augmented_batches(data, type(self).__name__)
        totals: List[Tensor] = []
        samples = [
            self._add_scores(batch, totals, alone=len(batches) == 1)
            for batch in batches
        ][0]
        for sample, total in zip(samples, totals):
            self.module.add_predictions(
                sample, None, total.argmax(dim=0), rescale=True)
        return samples

    def _add_scores(self, batch: dict, totals: List[Tensor],
                    alone: bool) -> SampleList:
        """Add one augmentation's scores of each image to ``totals``.

        Args:
            batch (dict): Data of one augmentation.
            totals (list[Tensor]): As of :func:`add_scores`.
            alone (bool): As of :func:`add_scores`.

        Returns:
            list[:obj:`DetDataSample`]: The samples of this augmentation.
        """
        model = self.module
        batch = model.data_preprocessor(batch, False)
        feats = model.branch_features(
            model.extract_feat(batch['inputs']), 'semantic')
        metas = [sample.metainfo for sample in batch['data_samples']]
        add_scores(model.semantic_head, feats, metas, totals, alone)
        return batch['data_samples']

    def merge_preds(self, data_samples_list: List[SampleList]) -> SampleList:
        """Not used: predictions of all augmentations are never held."""
        raise NotImplementedError('SemanticTTAModel adds up probabilities in '
                                  'test_step.')


def augmented_batches(data: dict, name: str) -> List[dict]:
    """Data of each augmentation, from what ``TestTimeAug`` gave a loader.

    Args:
        data (dict): For each key and augmentation a list over the images.
        name (str): Of the model, for the error.

    Raises:
        InputError: The data were not augmented.
    """
    if not isinstance(data['inputs'][0], Sequence):
        raise InputError(
            f'{name}: its data were not augmented. Test with --tta, which '
            'sets the tta_pipeline of the config.')
    return [dict(zip(data, augmented)) for augmented in zip(*data.values())]


def add_scores(head: nn.Module, feats: Tuple[Tensor, ...], metas: List[dict],
               totals: List[Tensor], alone: bool) -> None:
    """Add one augmentation's semantic scores of each image to ``totals``.

    Args:
        head (nn.Module): A ``SemanticFPNHead``.
        feats (tuple[Tensor]): FPN levels of the augmented images.
        metas (list[dict]): Of the images.
        totals (list[Tensor]): Sums (K, h, w) at the original size, empty
            before the first augmentation; is changed.
        alone (bool): Whether it is the only augmentation. Its logits then
            stand for themselves: rounding of their probabilities must not
            decide between two classes.
    """
    logits = head.predict(feats, metas, rescale=True)
    for index, (single, meta) in enumerate(zip(logits, metas)):
        scores = single if alone else single.softmax(dim=0)
        scores = flip_back(scores, meta)
        if index == len(totals):
            totals.append(scores)
        else:
            totals[index] += scores


def flip_back(maps: Tensor, meta: dict) -> Tensor:
    """Maps (..., h, w) of an image as they are without its flip."""
    if not meta.get('flip'):
        return maps
    return maps.flip(_FLIPPED[meta['flip_direction']])
