"""A web page for one model: drop an image, see both branches, their merge and
a table of the segments. Made with gradio.

Nothing is asked of other machines: usage statistics are off and fonts are the
browser's. Uploaded images are removed after an hour.
"""
import os
from html import escape
from typing import Any, List, Optional, Tuple

import numpy as np

from mmengine_exact.errors import CorruptFileError
from mmengine_exact.files import read_bytes
from panoptic_fpn.inference.inferencer import PanopticInferencer
from panoptic_fpn.inference.inputs import NamedResult
from panoptic_fpn.inference.results import (OVERLAY_SIZE, describe_result,
                                            result_map)
from panoptic_fpn.ops.decode import claimed_size
from panoptic_fpn.visualization.branches import draw_branches
from panoptic_fpn.visualization.colors import compact, segment_colors
from panoptic_fpn.visualization.drawing import display_scale

#: Larger images take gigabytes: their masks have their size.
MAX_PIXELS = 40_000_000

#: The pictures, in the order of ``draw_branches``.
PANELS = ('instances', 'semantic', 'panoptic')

_CAPTIONS = ('Instances', 'Semantic map', 'Panoptic result')
_INTRODUCTION = (
    '# Panoptic FPN\n'
    'Drop a photograph: instances, semantic map and panoptic result of '
    '`{name}`, {things} thing and {stuff} stuff classes.')

_SECONDS_KEPT = 3600

#: Message, the pictures (None where there is none) and the table.
Shown = Tuple[str, Optional[np.ndarray], Optional[np.ndarray],
              Optional[np.ndarray], str]


class Segmenter:
    """What the page calls: a file in, what is shown out.

    Args:
        inferencer (PanopticInferencer): The model.
    """

    def __init__(self, inferencer: PanopticInferencer) -> None:
        self.inferencer = inferencer

    def __call__(self, path: Optional[str], score: float) -> Shown:
        """Segment an image.

        Args:
            path (str, optional): Of the upload; None when it was removed.
            score (float): Least score of an instance.

        Returns:
            tuple: Message (Markdown), the three pictures and the table.
        """
        nothing = (None, None, None, '')
        if not path:
            return ('', *nothing)
        inferencer = self.inferencer
        result, name = NamedResult(path), os.path.basename(path)
        height, width = _claimed_size(path)
        if height * width > MAX_PIXELS:
            return (_complaint(
                f'{name}: {width} x {height} pixels; at most '
                f'{MAX_PIXELS // 1_000_000} million are taken. Make it '
                'smaller.'), *nothing)
        packed = inferencer.pipeline(path, result)
        if result.error:
            # without the folder, which says nothing to who sent the file
            return (_complaint(result.error.replace(path, name)), *nothing)
        assert result.image is not None  # as there is no error
        inferencer.forward([(result, packed)], score)
        return self._show(result, result.image, name, score)

    def _show(self, result: NamedResult, image: np.ndarray, name: str,
              score: float) -> Shown:
        space = self.inferencer.model.label_space
        height, width = image.shape[:2]
        pictures = draw_branches(image, result.sample, space, score,
                                 display_scale((height, width), OVERLAY_SIZE))
        _, description = describe_result(result.sample, space, name)
        codes = compact(result_map(result.sample))[1]
        colors = segment_colors(codes[codes != space.void], space.palette,
                                space.num_things)
        segments = description['segments']
        message = (f'{name}: {width} x {height} pixels, '
                   f'{len(segments)} segments')
        instances, semantic, merged = map(pictures.get, PANELS)
        return (escape(message), instances, semantic, merged,
                segment_table(segments, colors, height * width))


def _claimed_size(path: str) -> Tuple[int, int]:
    """(h, w) in the header of a file, 0 where it cannot be read."""
    try:
        return claimed_size(read_bytes(path, 'image', None)) or (0, 0)
    except CorruptFileError:
        return 0, 0


def _complaint(text: str) -> str:
    return f'**Cannot be used.** {escape(text)}'


def segment_table(segments: List[dict], colors: np.ndarray,
                  num_pixels: int) -> str:
    """HTML table of segments, the largest first.

    Args:
        segments (list[dict]): Of ``panoptic_segments``.
        colors (np.ndarray): RGB of each, uint8 of shape (n, 3).
        num_pixels (int): Of the image.

    Returns:
        str: With a row for each segment: colour, class, thing or stuff,
        score, pixels and their share.
    """
    order = np.argsort([-s['area'] for s in segments], kind='stable')
    rows = []
    for i in order:
        segment = segments[i]
        score = segment.get('score')
        cells = [
            '<span style="display:inline-block;width:1.6em;height:1em;'
            'background:rgb({},{},{})"></span>'.format(*colors[i].tolist()),
            escape(segment['category_name']),
            'thing' if segment['isthing'] else 'stuff',
            '' if score is None else f'{score:.2f}',
            f'{segment["area"]:,}',
            f'{100 * segment["area"] / num_pixels:.1f} %',
        ]
        rows.append('<tr>' + ''.join(f'<td>{cell}</td>'
                                     for cell in cells) + '</tr>')
    heads = ('Colour', 'Class', 'Kind', 'Score', 'Pixels', 'Share')
    return ('<table id="segments"><thead><tr>' + ''.join(f'<th>{head}</th>'
                                                         for head in heads) +
            f'</tr></thead><tbody>{"".join(rows)}</tbody></table>')


def build_page(inferencer: PanopticInferencer, name: str) -> Any:
    """The page.

    Args:
        inferencer (PanopticInferencer): The model.
        name (str): What the page calls it.

    Returns:
        gradio.Blocks: Not yet served.
    """
    import gradio as gr
    model = inferencer.model
    space = model.label_space
    own_score = model.panoptic_fusion_head.thresholds['score_thr']
    with gr.Blocks(
            title='Panoptic FPN',
            analytics_enabled=False,
            delete_cache=(_SECONDS_KEPT, _SECONDS_KEPT)) as page:
        gr.Markdown(
            _INTRODUCTION.format(
                name=name, things=space.num_things, stuff=space.num_stuff))
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
                    height=420) for panel, caption in zip(PANELS, _CAPTIONS)
            ]
        table = gr.HTML()
        gr.on([file.change, score.change],
              Segmenter(inferencer), [file, score],
              [message, *pictures, table],
              concurrency_limit=1,
              trigger_mode='always_last',
              api_name=False)
    return page


def serve(page: Any, host: str, port: int) -> None:
    """Serve a page until it is interrupted.

    Args:
        page (gradio.Blocks): From :func:`build_page`.
        host (str): Address that is listened at: 127.0.0.1 for this machine
            alone, 0.0.0.0 for all that reach it.
        port (int): Its port.

    Raises:
        OSError: The port is taken.
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
