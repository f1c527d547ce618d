"""One HTML page of a run: curves, scores, errors, pictures.

Example:
    python tools/test.py CONFIG CHECKPOINT --work-dir work_dirs/run --report
    python tools/report.py work_dirs/run
    python tools/report.py work_dirs/run work_dirs/baseline --out compare.html

A directory may also be the --out of tools/eval_panoptic.py --report.
The page needs no other file. What was not computed is named, with the command
that computes it. Exit code: 0 written, 1 nothing of a run is there or the page
cannot be written, 2 wrong arguments.
"""
import argparse
import sys
from pathlib import Path


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dir', type=Path, help='work directory of a run')
    parser.add_argument(
        'other', type=Path, nargs='?', help='work directory to compare with')
    parser.add_argument(
        '--out', type=Path, help='default: WORK_DIR/report.html')
    return parser.parse_args()


def main():
    args = parse_args()
    from mmengine_exact import run_to_exit_code
    from panoptic_apps.report import read_run, write_report

    def report():
        run = read_run(args.work_dir)
        other = read_run(args.other) if args.other else None
        out = args.out or args.work_dir / 'report.html'
        write_report(str(out), run, other)
        print(f'{out} ({out.stat().st_size / 1e6:.1f} MB)')

    return run_to_exit_code(report)


if __name__ == '__main__':
    sys.exit(main())
