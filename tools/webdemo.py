"""Web page of a trained model: drop an image or a video, see the result.

Example:
    python tools/webdemo.py CONFIG.py CHECKPOINT.pth --port 7860

Shows photograph, instances, semantic map and panoptic result side by side,
and a table of the segments; of a video the overlay. Stop it with Ctrl-C. Exit
code: 0 stopped, 1 the model, gradio or the port cannot be used, 2 wrong
arguments.
"""
import argparse
import os
import os.path as osp
import sys
from importlib.util import find_spec

from mmengine.config import DictAction


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('config', help='config of the model')
    parser.add_argument(
        'checkpoint',
        nargs='+',
        help='its weights; two for two networks, instance first')
    parser.add_argument(
        '--examples', metavar='FOLDER', help='images to click on')
    parser.add_argument('--port', type=int, default=7860)
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen at; 0.0.0.0 lets other machines in')
    parser.add_argument(
        '--device',
        help='cpu, cuda:0, ...; without it the first GPU, else the CPU')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='convolutions in bfloat16 (float16 on a GPU)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='keys of the config to override, key=value')
    args = parser.parse_args()
    if not 0 < args.port < 65536:
        parser.error(f'--port {args.port} is not within 1 .. 65535')
    files = [*args.checkpoint]
    if args.config.endswith('.py'):  # else the name of a packaged one
        files.append(args.config)
    for path in files:
        if not osp.isfile(path):
            parser.error(f'{path}: no such file')
    if args.examples and not osp.isdir(args.examples):
        parser.error(f'--examples {args.examples}: no such folder')
    if len(args.checkpoint) == 1:
        args.checkpoint = args.checkpoint[0]
    return args


def main():
    args = parse_args()
    if find_spec('gradio') is None:
        print(
            'error: the web page needs gradio. Install it with '
            f'{sys.executable} -m pip install -r requirements/webdemo.txt',
            file=sys.stderr)
        return 1
    # before it is imported
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    from mmengine_exact.errors import InputError
    from mmengine_exact.threads import fit_threads
    from panoptic_apps.web_page import build_page, serve
    from panoptic_fpn.inference import find_images
    from panoptic_fpn.inference.inferencer import PanopticInferencer
    from panoptic_fpn.visualization.video import VIDEO_SUFFIXES
    examples = [
        path for path in find_images([args.examples] if args.examples else [])
        if not path.lower().endswith(VIDEO_SUFFIXES)
    ]
    if args.device in (None, 'cpu'):
        fit_threads()
    try:
        inferencer = PanopticInferencer(args.config, args.checkpoint,
                                        args.device, args.amp,
                                        args.cfg_options)
        name = osp.splitext(osp.basename(args.config))[0]
        page = build_page(inferencer, name, examples)
        serve(page, args.host, args.port)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f'error: cannot serve at {args.host}:{args.port} ({error}). '
            'Choose another --port or --host.',
            file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
