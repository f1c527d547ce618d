"""Oracle: AP by pycocotools alone, on dicts as its JSON files hold them."""
import copy
import io
from contextlib import redirect_stdout

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def evaluate_by_pycocotools(dataset, found, iou_type, **params):
    """The evaluation of detections, which pycocotools would change.

    Args:
        dataset (dict): Instances JSON.
        found (list[dict]): Results JSON; each with a ``bbox`` or a
            ``segmentation``, as areas are those of what is judged.
        iou_type (str): 'bbox' or 'segm'.
        params: Of pycocotools' ``Params``.

    Returns:
        COCOeval: With ``stats`` and ``eval``.
    """
    # an empty list cannot be loaded; no category has the id -1
    nothing = dict(
        image_id=dataset['images'][0]['id'],
        category_id=-1,
        bbox=[0, 0, 1, 1],
        score=0)
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        judged = COCOeval(truth, truth.loadRes(found or [nothing]), iou_type)
        vars(judged.params).update(params)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged
