"""A web page for one model: drop an image, see both branches, their merge and
a table of the segments. Made with gradio.

Other machines are not contacted: usage statistics are off and fonts are the
browser's. Uploaded images are removed after an hour.
"""
import os
from html import escape
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

from panoptic_fpn.inference import (PanopticInferencer, describe_result,
                                    inference_panoptic)
from panoptic_fpn.ops.decode import claimed_size
from panoptic_fpn.ops.run_length import index_map
from panoptic_fpn.visualization.colors import segment_colors
from panoptic_fpn.visualization.drawing import OVERLAY_SIZE, display_scale
from panoptic_fpn.visualization.samples import draw_branches, panoptic_map

#: Larger images take gigabytes: their masks have their size.
MAX_PIXELS = 40_000_000

#: The pictures, in the order of ``draw_branches``, and their captions.
PANELS = dict(
    instances='Instances', semantic='Semantic map', panoptic='Panoptic result')

#: Columns of the table of segments, and what gradio is to show in them.
COLUMNS: Any = dict(
    Colour='html',
    Class='str',
    Kind='str',
    Score='number',
    Pixels='number',
    Share='str')

_SECONDS_KEPT = 3600

#: Message, the pictures (None where there is none) and the table.
Shown = Tuple[Any, ...]


class Segmenter:
    """What the page calls: takes a file, returns what is shown."""

    def __init__(self, inferencer: PanopticInferencer) -> None:
        self.inferencer = inferencer

    def __call__(self, path: Optional[str], score: float) -> Shown:
        """Segment the upload, None when it was removed, with this least score
        of an instance."""
        if not path:
            return '', None, None, None, []
        name = os.path.basename(path)
        claimed = claimed_size(Path(path).read_bytes())
        if claimed is not None and claimed[0] * claimed[1] > MAX_PIXELS:
            return _complain(f'{name}: more than {MAX_PIXELS // 1_000_000} '
                             'million pixels. Make it smaller.')
        result, = inference_panoptic(
            self.inferencer.model,
            path,
            self.inferencer.amp,
            pred_score_thr=score)
        if result.error:
            # without the folder, which means nothing to the user
            return _complain(result.error.replace(path, name))
        space = self.inferencer.model.label_space
        panoptic = panoptic_map(result.sample)
        height, width = panoptic.shape
        segments = describe_result(result.sample, space)[1]['segments']
        pictures = draw_branches(result.image, result.sample, space, score,
                                 display_scale(panoptic.shape, OVERLAY_SIZE))
        codes = index_map(panoptic)[0]
        colors = segment_colors(codes[codes != space.void], space.palette,
                                space.num_things)
        message = (f'{name}: {width} x {height} pixels, '
                   f'{len(segments)} segments')
        return (escape(message), *map(pictures.get, PANELS),
                segment_rows(segments, colors, height * width))


def _complain(text: str) -> Shown:
    return f'**Cannot be used.** {escape(text)}', None, None, None, []


def segment_rows(segments: List[dict], colors: np.ndarray,
                 num_pixels: int) -> List[list]:
    """Rows of ``COLUMNS`` for segments of ``describe_result`` and their
    ``colors`` (RGB uint8 (n, 3)), the largest first."""
    rows = [[
        '<span style="background:rgb({},{},{})">&emsp;&emsp;</span>'.format(
            *color),
        segment['category_name'],
        'thing' if segment['isthing'] else 'stuff',
        segment.get('score'),
        segment['area'],
        f'{100 * segment["area"] / num_pixels:.1f} %',
    ] for segment, color in zip(segments, colors.tolist())]
    return sorted(rows, key=lambda row: -row[4])


def build_page(inferencer: PanopticInferencer, name: str) -> Any:
    """The page of a model of this name, ``gradio.Blocks`` not yet served."""
    import gradio as gr
    model = inferencer.model
    space = model.label_space
    own_score = model.panoptic_fusion_head.thresholds['score_thr']
    with gr.Blocks(
            title='Panoptic FPN',
            analytics_enabled=False,
            delete_cache=(_SECONDS_KEPT, _SECONDS_KEPT)) as page:
        gr.Markdown('# Panoptic FPN\n'
                    'Drop a photograph: instances, semantic map and panoptic '
                    f'result of `{name}`, {space.num_things} thing and '
                    f'{space.num_stuff} stuff classes.')
        with gr.Row():
            file = gr.File(
                label='Photograph',
                file_types=['image'],
                elem_id='photograph',
                height=140)
            with gr.Column():
                score = gr.Slider(
                    0, 1, own_score, step=0.05, label='Least score of things')
                message = gr.Markdown(elem_id='message')
        with gr.Row():
            pictures = [
                gr.Image(
                    label=caption,
                    elem_id=panel,
                    interactive=False,
                    buttons=['fullscreen', 'download'],
                    height=420) for panel, caption in PANELS.items()
            ]
        table = gr.Dataframe(
            headers=list(COLUMNS),
            datatype=list(COLUMNS.values()),
            column_count=len(COLUMNS),
            type='array',
            elem_id='segments',
            interactive=False)
        gr.on([file.change, score.change],
              Segmenter(inferencer), [file, score],
              [message, *pictures, table],
              concurrency_limit=1,
              trigger_mode='always_last',
              api_name=False)
    return page


def serve(page: Any, host: str, port: int) -> None:
    """Serve a page until it is interrupted, at 127.0.0.1 for this machine
    alone, at 0.0.0.0 for all that reach it.

    Raises:
        OSError: The port is in use.
    """
    import gradio as gr
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        footer_links=[],
        run_history=False,
        theme=gr.themes.Default(
            font=['system-ui', 'sans-serif'],
            font_mono=['ui-monospace', 'monospace']),
        max_file_size='100mb',
        ssr_mode=False,
        prevent_thread_lock=True)
    print(f'serving at http://{host}:{port} (Ctrl-C stops it)', flush=True)
    page.block_thread()
