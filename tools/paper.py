"""The paper's tables: one config and one command for each row.

Example:
    python tools/paper.py list
    python tools/paper.py show table2a/lambda-s-0.25
    python tools/paper.py run table3a --gpus 8 --dry-run
    python tools/paper.py run all --gpus 8 --jobs 20 \
        --profile configs/paper/slurm
    python tools/paper.py report work_dirs/paper
    python tools/paper.py run --miniature; \
        python tools/paper.py report work_dirs/paper --miniature
    python tools/paper.py zoo
    python tools/paper.py compute

Exit code: 0 done, 1 something cannot be used, a run failed or was
interrupted, 2 wrong arguments.
"""
import argparse
import os
import os.path as osp
import sys
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(osp.abspath(__file__)).parents[1]
TABLES = ROOT / 'configs' / 'paper' / 'tables.yml'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True)
    work = argparse.ArgumentParser(add_help=False)
    work.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/paper'),
        help='folder of all runs (default: %(default)s)')
    work.add_argument(
        '--miniature',
        action='store_true',
        help='the rows in miniature: synthetic data, tiny model')

    part = commands.add_parser(
        'list', parents=[work], help='rows, numbers, configs and states')
    part.add_argument('--table', help='only this one, such as table2a')
    part.add_argument(
        '--markdown',
        action='store_true',
        help='the map of configs/paper/README.md, without states')

    part = commands.add_parser(
        'show', parents=[work], help='one row: config, commands, state')
    part.add_argument('row', help='such as table2a/lambda-s-0.25')
    part.add_argument('--gpus', type=int, help='processes of a run')

    part = commands.add_parser(
        'run', parents=[work], help='train and evaluate rows')
    part.add_argument('rows', nargs='*', help='rows, tables, or all')
    part.add_argument(
        '--seeds',
        type=_number,
        help='trainings of each run; by default 5 on Cityscapes as in the '
        'paper, 3 in miniature, otherwise 1')
    part.add_argument(
        '--gpus',
        type=int,
        help='processes of a run; 0 for tools/train.py without a launcher. '
        'By default the visible GPUs, in miniature 0')
    part.add_argument(
        '--jobs', type=_number, default=1, help='runs side by side')
    part.add_argument(
        '--profile',
        type=Path,
        metavar='FOLDER',
        help='a Snakemake profile, such as configs/paper/slurm: runs on the '
        'machines of a cluster')
    part.add_argument(
        '--lambda-grid',
        action='store_true',
        help='the weights of the losses of section 4.4, all nine')
    part.add_argument(
        '--dry-run', action='store_true', help='print the commands')
    _add_pages(commands)
    args = parser.parse_args()
    _check(parser, args)
    return args


def _add_pages(commands):
    part = commands.add_parser(
        'report', help='tables and pictures of finished runs')
    part.add_argument(
        'work_dirs',
        type=Path,
        nargs='+',
        metavar='WORK_DIR',
        help='the --work-dir of run')
    part.add_argument(
        '--out', type=Path, help='folder of report.md; by default WORK_DIR')
    part.add_argument(
        '--miniature', action='store_true', help='runs of the miniature')
    part.add_argument(
        '--save',
        type=Path,
        metavar='FILE.yml',
        help='also put the results into this file, such as docs/results.yml')

    part = commands.add_parser(
        'zoo', help='the model zoo page and metafiles, from recorded results')
    part.add_argument(
        '--results', type=Path, default=ROOT / 'docs' / 'results.yml')
    part.add_argument(
        '--out',
        type=Path,
        default=ROOT,
        help='folder of docs/model_zoo.md and configs/*/metafile.yml '
        '(default: this repository)')

    part = commands.add_parser(
        'compute', help='Figure 4, and the compute of Tables 1a, 3a and 3b')
    part.add_argument(
        '--out',
        type=Path,
        default=ROOT / 'docs',
        help='folder of complexity.md (default: docs)')


def _number(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text}: must be 1 or more')
    return int(text)


def _check(parser, args):
    gpus = getattr(args, 'gpus', None)
    if gpus is not None and gpus < 0:
        parser.error(f'--gpus {gpus}: must be at least 0')
    if args.command == 'list' and args.table and args.markdown:
        parser.error('--table: the map has all tables')
    if args.command == 'report' and args.miniature and args.save:
        parser.error('--save: results of the miniature are not saved')
    if args.command != 'run':
        return
    if not args.rows and not args.miniature:
        parser.error('run: name rows or tables, or all')
    if args.miniature and args.lambda_grid:
        parser.error('--lambda-grid: not in miniature')


def list_rows(args, tables):
    from panoptic_paper.listing import list_rows, map_page
    if args.markdown:
        print(map_page(tables), end='')
        return
    chosen = [tables.table(args.table)] if args.table else tables
    print(list_rows(tables, chosen, args.work_dir, args.miniature))


def show_row(args, tables):
    from panoptic_paper.listing import show_row
    print(
        show_row(tables, tables.row(args.row), _launch(args), args.miniature))


def run_rows(args, tables):
    import torch

    from panoptic_paper.plan import plan_steps, start_snakemake
    rows = tables.select(args.rows or ['all'])
    launch = _launch(args)
    steps = plan_steps(tables, rows, launch, args.seeds, args.miniature,
                       args.lambda_grid)
    start_snakemake(steps, launch, args.jobs, torch.cuda.device_count(),
                    args.dry_run, args.profile)


def _launch(args):
    import torch

    from panoptic_paper.plan import LaunchOptions
    gpus = args.gpus
    if gpus is None:
        gpus = 0 if args.miniature else torch.cuda.device_count()
    return LaunchOptions(args.work_dir.absolute(), ROOT / 'tools', gpus)


def write_report(args, tables):
    from panoptic_paper.collect import collect
    from panoptic_paper.report import write_report
    report = collect(tables, args.work_dirs, args.miniature)
    for path in write_report(report, args.out or args.work_dirs[0]):
        print(path)
    if args.save:
        from panoptic_paper.zoo import save_results
        save_results(args.save, tables, report)
        print(args.save)
    for path in report.empty:
        other = 'without' if args.miniature else 'with'
        print(f'nothing there: {path} ({other} --miniature?)', file=sys.stderr)
    for run, state in report.unfinished.items():
        print(f'not counted: {run}: {state}', file=sys.stderr)


def write_zoo(args, tables):
    from panoptic_paper.report import write_files
    from panoptic_paper.zoo import read_results, zoo_files
    files = zoo_files(tables, read_results(args.results, tables))
    print(*write_files(args.out, files), sep='\n')


def write_compute(args, tables):
    from panoptic_paper.compute import write_compute
    print(*write_compute(tables, args.out), sep='\n')


COMMANDS = dict(
    list=list_rows,
    show=show_row,
    run=run_rows,
    report=write_report,
    zoo=write_zoo,
    compute=write_compute)


def main():
    args = parse_args()
    # what is printed may be a script, and a package may print when imported
    with redirect_stdout(sys.stderr):
        from mmengine_exact import run_to_exit_code
        from panoptic_paper.tables import read_tables
    command = COMMANDS[args.command]
    try:
        return run_to_exit_code(lambda: command(args, read_tables(TABLES)))
    except KeyboardInterrupt:
        print('interrupted: the same command continues', file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `list | head`; nothing more can be printed, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == '__main__':
    sys.exit(main())
