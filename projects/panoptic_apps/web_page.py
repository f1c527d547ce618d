"""A web page for one model: drop a photograph, see it beside both branches and
their merge, and a table of the segments; or a video. Made with gradio.

Other machines are not contacted: usage statistics are off and fonts are the
browser's. Uploaded files are removed after an hour.
"""
import os
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from mmengine_exact.errors import InputError
from panoptic_fpn.inference import (PanopticInferencer, describe_result,
                                    inference_panoptic)
from panoptic_fpn.inference.inference import merge_thresholds
from panoptic_fpn.ops.decode import claimed_size
from panoptic_fpn.ops.run_length import index_map
from panoptic_fpn.visualization.colors import segment_colors
from panoptic_fpn.visualization.drawing import (OVERLAY_SIZE, display_scale,
                                                enlarge)
from panoptic_fpn.visualization.samples import (draw_branches, panoptic_map,
                                                resize_map)
from panoptic_fpn.visualization.video import VIDEO_SUFFIXES

#: Larger images take gigabytes: their masks have their size.
MAX_PIXELS = 40_000_000

#: A segment shows while its name is pointed at.
_CSS = """
#panoptic .mask { opacity: 0; }
#panoptic .mask.active { opacity: 1; filter: drop-shadow(0 0 2px #fff)
  drop-shadow(0 0 6px #000); }
"""

#: Message, photograph, panoptic result (the arguments of an AnnotatedImage),
#: instances, semantic map (None where there is none) and the table.
Shown = Tuple[Any, ...]
_NOTHING: Shown = None, dict(value=None), None, None, []


class Segmenter:
    """What the page calls: takes a file, returns what is shown."""

    def __init__(self, inferencer: PanopticInferencer) -> None:
        self.inferencer = inferencer

    def __call__(self, path: Optional[str], score: float) -> Shown:
        """Segment the upload, None when it was removed, with this least score
        of an instance."""
        if not path:
            return '', *_NOTHING
        try:
            return self._segment(path, score)
        except InputError as error:
            return _complain(error, path), *_NOTHING

    def _segment(self, path: str, score: float) -> Shown:
        claimed = claimed_size(Path(path).read_bytes())
        if claimed is not None and claimed[0] * claimed[1] > MAX_PIXELS:
            raise InputError(f'{path}: more than {MAX_PIXELS // 1_000_000} '
                             'million pixels. Make it smaller.')
        result, = inference_panoptic(
            self.inferencer.model,
            path,
            self.inferencer.amp,
            pred_score_thr=score)
        if result.error:
            raise InputError(result.error)
        space = self.inferencer.model.label_space
        panoptic = panoptic_map(result.sample)
        height, width = panoptic.shape
        segments = describe_result(result.sample, space)[1]['segments']
        scale = display_scale(panoptic.shape, OVERLAY_SIZE)
        pictures = draw_branches(result.image, result.sample, space, score,
                                 scale)
        codes = index_map(panoptic)[0]
        codes = codes[codes != space.void]
        colors = segment_colors(codes, space.palette, space.num_things)
        message = (f'{os.path.basename(path)}: {width} x {height} pixels, '
                   f'{len(segments)} segments')
        return (escape(message), enlarge(result.image, scale),
                annotate(pictures['panoptic'], panoptic, codes, colors,
                         segments), pictures.get('instances'),
                pictures.get('semantic'),
                segment_rows(segments, colors, height * width))

    def video(self, path: Optional[str], score: float,
              most: int) -> Iterator[Tuple[str, Optional[str]]]:
        """Segment this many frames of the upload at most.

        Yields:
            tuple[str, str | None]: Message, and at last the overlay's file,
            which is removed when the next one is asked for.
        """
        if not path:
            yield 'Drop a video first.', None
            return
        name, count = os.path.basename(path), 0
        try:
            if not name.lower().endswith(VIDEO_SUFFIXES):
                raise InputError(f'{name}: not a video. Drop one of '
                                 f'{", ".join(VIDEO_SUFFIXES)}.')
            with TemporaryDirectory() as folder:
                for found, _ in self.inferencer.stream(
                        path,
                        pred_score_thr=score,
                        no_save_pred=True,
                        out_dir=folder,
                        max_frames=most):
                    if 'error' in found:
                        raise InputError(found['error'])
                    count += 1
                    yield escape(f'{name}: {count} frames'), None
                yield escape(
                    f'{name}: {count} frames, done'), found['overlay_path']
        except InputError as error:
            yield _complain(error, path), None


def _complain(error: InputError, path: str) -> str:
    # without the folder, which means nothing to the user
    text = str(error).replace(path, os.path.basename(path))
    return f'**Cannot be used.** {escape(text)}'


def annotate(picture: np.ndarray, panoptic: np.ndarray, codes: np.ndarray,
             colors: np.ndarray, segments: Sequence[dict]) -> dict:
    """Arguments of ``gradio.AnnotatedImage``: a picture (RGB) of the map
    (h, w), made smaller for the browser, and the mask of each segment by a
    name of its own."""
    scale = min(1., OVERLAY_SIZE / max(picture.shape))
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    panoptic = resize_map(panoptic, picture.shape)
    names = [
        segment['category_name'] + f' {segment["id"]}' * segment['isthing']
        for segment in segments
    ]
    return dict(
        value=(picture, [(0.9 * (panoptic == code), name)
                         for code, name in zip(codes, names)]),
        color_map={
            name: '#' + bytes(color).hex()
            for name, color in zip(names, colors)
        })


def segment_rows(segments: List[dict], colors: np.ndarray,
                 num_pixels: int) -> List[list]:
    """Rows of the table for segments of ``describe_result`` and their
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


def build_page(inferencer: PanopticInferencer,
               name: str,
               examples: Sequence[str] = ()) -> Any:
    """The page of a model of this name, with images to click on,
    ``gradio.Blocks`` not yet served."""
    import gradio as gr
    model, segmenter = inferencer.model, Segmenter(inferencer)
    space = model.label_space
    own_score = merge_thresholds(model)['score_thr']
    # one at a time: the threshold is the model's
    alone: Any = dict(
        concurrency_limit=1, concurrency_id='model', api_name=False)
    with gr.Blocks(
            title='Panoptic FPN',
            analytics_enabled=False,
            delete_cache=(3600, 3600)) as page:
        gr.Markdown('# Panoptic FPN\n'
                    'Drop a photograph: instances, semantic map and panoptic '
                    f'result of `{name}`, {space.num_things} thing and '
                    f'{space.num_stuff} stuff classes. Point at a name below '
                    'the result to see its segment.')
        score = gr.Slider(
            0, 1, own_score, step=0.05, label='Least score of things')
        with gr.Tab('Photograph'):
            file = _add_input(gr, examples)
            shown = _add_results(gr)
        gr.on([file.change, score.change],
              lambda *given: [
                  gr.update(**one) if isinstance(one, dict) else one
                  for one in segmenter(*given)
              ], [file, score],
              shown,
              trigger_mode='always_last',
              **alone)
        with gr.Tab('Video'):
            most = gr.Slider(1, 1000, 100, step=1, label='Frames at most')
            with gr.Row():
                start, stop = map(gr.Button, ('Segment', 'Stop'))
            message = gr.Markdown(elem_id='video-message')
            with gr.Row():
                video = gr.Video(
                    label='Video',
                    elem_id='video',
                    sources=['upload'],
                    min_width=480)
                overlay = gr.Video(
                    label='Panoptic result',
                    elem_id='overlay',
                    interactive=False,
                    min_width=480)
        running = start.click(segmenter.video, [video, score, most],
                              [message, overlay], **alone)
        stop.click(None, cancels=[running])
    return page


def _add_input(gr: Any, examples: Sequence[str]) -> Any:
    """Where to drop a file, or click on an example to have it there."""
    file = gr.File(
        label='Photograph',
        file_types=['image'],
        elem_id='photograph',
        height=140)
    if examples:
        chosen = gr.Dataset(
            label='Examples',
            components=[gr.Image(render=False)],
            samples=[[example] for example in examples],
            type='index',
            elem_id='examples')
        # gradio's copies: the page may serve no file of other folders
        chosen.click(
            lambda i: chosen.samples[i][0]['path'],
            chosen,
            file,
            api_name=False)
    return file


def _add_results(gr: Any) -> List[Any]:
    """The components of ``Shown``."""
    look: Any = dict(
        interactive=False, buttons=['fullscreen', 'download'], min_width=480)
    message = gr.Markdown(elem_id='message')
    with gr.Row():
        pictures = [
            gr.Image(label='Photograph', elem_id='photo', **look),
            gr.AnnotatedImage(
                label='Panoptic result', elem_id='panoptic', min_width=480),
            gr.Image(label='Instances', elem_id='instances', **look),
            gr.Image(label='Semantic map', elem_id='semantic', **look)
        ]
    table = gr.Dataframe(
        headers=['Colour', 'Class', 'Kind', 'Score', 'Pixels', 'Share'],
        datatype=['html', 'str', 'str', 'number', 'number', 'str'],
        column_count=6,
        type='array',
        elem_id='segments',
        interactive=False)
    return [message, *pictures, table]


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
        css=_CSS,
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
