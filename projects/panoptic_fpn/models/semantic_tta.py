"""Multi-scale and flipped inference of the semantic branch.

In    inputs[a][n]  (3, h, w), image n of the batch after augmentation a
Out   as ``TwoStagePanopticFPN.predict`` of a model with a semantic branch
      alone, from the probabilities (K, h, w) at the original size, flipped
      back and averaged over the augmentations

The sum of the probabilities and one augmentation's are held, whatever the
number of augmentations.
"""
from typing import List, Optional, Sequence, Union

import torch
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.model import BaseTTAModel
from torch import Tensor, nn

from ..errors import PanopticError

#: Axes of (K, h, w) that a flip reverses.
_FLIPPED = dict(horizontal=(2, ), vertical=(1, ), diagonal=(1, 2))


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
        PanopticError: The model has a region branch or no semantic one, or
            the data were not augmented.
    """

    def __init__(self,
                 module: Union[dict, nn.Module],
                 class_balance: Optional[dict] = None,
                 **kwargs) -> None:
        super().__init__(module, **kwargs)
        self._check_branches()
        if class_balance is not None:
            self.module.semantic_head.balance_classes(**class_balance)

    def _check_branches(self) -> None:
        name = type(self.module).__name__
        if getattr(self.module, 'semantic_head', None) is None:
            raise PanopticError(
                f'SemanticTTAModel: {name} has no semantic branch, and '
                'augmentations are averaged of that alone. Leave --tta out.')
        if getattr(self.module, 'roi_head', None) is not None:
            raise PanopticError(
                f'SemanticTTAModel: {name} has a region branch, whose '
                'instances are not merged over augmentations. Leave --tta '
                'out, or set model.loss_weights.instance=0.')

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
        if not isinstance(data['inputs'][0], Sequence):
            raise PanopticError(
                'SemanticTTAModel: its data were not augmented. Test with '
                '--tta, which sets the tta_pipeline of the config.')
        batches = [
            dict(zip(data, augmented)) for augmented in zip(*data.values())
        ]
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
            totals (list[Tensor]): Sums (K, h, w), empty before the first.
            alone (bool): Whether it is the only one. Its logits then stand
                for themselves: rounding of their probabilities must not
                decide between two classes.

        Returns:
            list[:obj:`DetDataSample`]: The samples of this augmentation.
        """
        model = self.module
        batch = model.data_preprocessor(batch, False)
        samples = batch['data_samples']
        feats = model.branch_features(
            model.extract_feat(batch['inputs']), 'semantic')
        metas = [sample.metainfo for sample in samples]
        logits = model.semantic_head.predict(feats, metas, rescale=True)
        for index, (single, meta) in enumerate(zip(logits, metas)):
            scores = single if alone else single.softmax(dim=0)
            if meta.get('flip'):
                scores = scores.flip(_FLIPPED[meta['flip_direction']])
            if index == len(totals):
                totals.append(scores)
            else:
                totals[index] += scores
        return samples

    def merge_preds(self, data_samples_list: List[SampleList]) -> SampleList:
        """Not used: predictions of all augmentations are never held."""
        raise NotImplementedError('SemanticTTAModel adds up probabilities in '
                                  'test_step.')
