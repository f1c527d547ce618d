"""Score result files of any framework.

Example:
    python tools/eval_panoptic.py panoptic_val2017.json panoptic_val2017 \\
        results.json results
    python tools/eval_panoptic.py GT_JSON GT_PNGS RESULT_JSON RESULT_PNGS \\
        --extra boundary interval --report --images IMAGES --out DIR
    python tools/report.py DIR

The results are a JSON with annotations (image_id, file_name, segments_info)
and a folder of PNGs, id = R + 256 G + 256^2 B, as panopticapi reads them.
Prints the table of tools/test.py. Exit code: 0 done, 1 a file cannot be used,
2 wrong arguments.
"""
import argparse
import json
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('gt_json', help='COCO panoptic JSON')
    parser.add_argument('gt_pngs', help='folder of its PNGs')
    parser.add_argument('result_json', help='JSON of the results')
    parser.add_argument('result_pngs', help='folder of their PNGs')
    parser.add_argument(
        '--extra',
        nargs='+',
        default=[],
        choices=['boundary', 'dagger', 'size', 'images', 'interval'],
        help='further measures, see docs/measures.md')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write metrics.json, images.json and record.json to this folder')
    parser.add_argument(
        '--report',
        action='store_true',
        help='write what became of each segment to --out, for tools/report.py')
    parser.add_argument(
        '--images',
        metavar='DIR',
        help='folder of the photographs, for the pictures of --report')
    parser.add_argument(
        '--against',
        metavar='IMAGES_JSON',
        help='images.json of another run: print which differences of PQ are '
        'beyond chance')
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes; default: one for each core')
    args = parser.parse_args()
    if (args.report or args.against) and not args.out:
        parser.error('--report and --against need --out DIR')
    if args.num_workers is not None and args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers}: must be at least 1')
    for folder in filter(None, (args.gt_pngs, args.result_pngs, args.images)):
        if not osp.isdir(folder):
            parser.error(f'{folder}: no such folder')
    return args


def evaluate(args):
    """Score the files, write and print what is asked for."""
    from mmengine.utils import ProgressBar

    from mmengine_exact.files import write_bytes
    from mmengine_exact.record import RECORD
    from panoptic_apps.eval_panoptic import (files_record, pair_files,
                                             read_sample, score_pairs)
    from panoptic_apps.report import (compare, explain_errors,
                                      format_comparison, read_images)
    from panoptic_fpn.metrics import (PanopticEvaluator, PanopticQualityMetric,
                                      SemanticIoUMetric)
    from panoptic_fpn.training.metrics_json import IMAGES, write_scores
    other = read_images(args.against) if args.against else None
    space, pairs = pair_files(args.gt_json, args.gt_pngs, args.result_json,
                              args.result_pngs, args.images)
    extra = dict.fromkeys([*args.extra, *(['images'] if args.out else [])])
    evaluator = PanopticEvaluator([
        PanopticQualityMetric(extra=[*extra]),
        SemanticIoUMetric(predict_things=True)
    ])
    evaluator.dataset_meta = space.metainfo()
    if args.report:
        outcomes = explain_errors(evaluator, args.out, maps_later=True)
    bar = ProgressBar(len(pairs), file=sys.stderr)
    scores = score_pairs(pairs, evaluator, args.num_workers, bar.update)
    print(file=sys.stderr)
    if args.out:
        write_scores(osp.join(args.out, 'metrics.json'), scores, evaluator)
        record = files_record(args.gt_json, args.result_json)
        write_bytes(
            osp.join(args.out, RECORD),
            json.dumps(record, indent=1).encode())
    if args.report:
        for image_id in outcomes.chosen:
            outcomes.write_maps(read_sample(pairs[image_id]))
    if args.against:
        own = read_images(osp.join(args.out, IMAGES))
        print(format_comparison(compare(own, other)))


def main():
    args = parse_args()
    from mmengine_exact import run_to_exit_code
    return run_to_exit_code(lambda: evaluate(args))


if __name__ == '__main__':
    sys.exit(main())
