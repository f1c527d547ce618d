"""``PanopticInferencer`` and tools/demo.py, with a random tiny model."""
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmengine_exact.errors import InputError
from panoptic_fpn.inference import inferencer as module
from panoptic_fpn.inference.inferencer import PanopticInferencer
from panoptic_fpn.labels import rgb_to_id
from panoptic_fpn.visualization.image_io import write_image
from panoptic_fpn.visualization.video import VideoFrames, VideoWriter
from tests import tiny
from tests.conftest import call_tool

#: Many things on the maps of a model that knows nothing.
SCORE = 0.3


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return tiny.write_tiny_model(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def inferencer(files):
    return PanopticInferencer(*map(str, files), 'cpu', show_progress=False)


@pytest.fixture
def folder(tmp_path):
    """Three pictures and one in a folder of its own, of three shapes."""
    sizes = dict(b=(96, 128), a=(128, 96), c=(96, 128))
    for seed, (name, size) in enumerate(sizes.items()):
        write_image(
            str(tmp_path / 'in' / f'{name}.png'), tiny.picture(*size, seed))
    write_image(
        str(tmp_path / 'in' / 'deep' / 'a.png'), tiny.picture(64, 128, 9))
    return tmp_path / 'in'


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'clip.mp4'
    writer = VideoWriter(str(path), 10)
    for seed in range(3):
        writer.write(tiny.picture(96, 128, seed))
    writer.close()
    return path


@pytest.mark.parametrize('config', [str, Config.fromfile])
def test_an_option_that_nothing_reads(files, config):
    """From a file as from a config."""
    with pytest.raises(InputError, match=r'no run reads it \(is it model\?\)'):
        PanopticInferencer(
            config(files[0]),
            str(files[1]),
            'cpu',
            cfg_options={'modle.test_cfg.panoptic.score_thr': 0.1})


def maps(found):
    return [prediction['panoptic_seg'] for prediction in found['predictions']]


def names(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob('*')
        if path.is_file())


def test_arrays_and_files_are_equal(inferencer, folder, monkeypatch, capsys):
    """BGR arrays, paths as text or Path; named in order."""
    monkeypatch.setattr(inferencer, 'show_progress', True)
    path = folder / 'a.png'
    array = cv2.imread(str(path))
    found = inferencer(
        [array, path, array, str(folder / 'b.png')], pred_score_thr=SCORE)
    assert '4/4' in capsys.readouterr().out
    one, two, three, other = maps(found)
    assert np.array_equal(one, two) and np.array_equal(one, three)
    assert one.shape == (128, 96) and other.shape == (96, 128)
    labels = [prediction['image'] for prediction in found['predictions']]
    first = inferencer.num_arrays - 1
    assert labels == [
        f'image {first}',
        str(path), f'image {first + 1}',
        str(folder / 'b.png')
    ]
    # what these tests compare has things and stuff
    segments = found['predictions'][0]['segments']
    assert sum(s['isthing'] for s in segments) >= 3
    assert any(not s['isthing'] for s in segments)


def test_batches_give_the_same_results(inferencer):
    """Of seven shapes some are padded alike."""
    images = [
        tiny.picture(*size, seed)
        for seed, size in enumerate([(96, 128), (128, 96), (90, 128), (
            128, 128), (96, 120), (60, 128), (128, 96)])
    ]
    options = dict(pred_score_thr=SCORE, return_datasamples=True)
    alone = inferencer(images, **options)['predictions']
    batch = inferencer(images, 4, **options)['predictions']
    for one, two in zip(alone, batch):
        for name in ('pred_panoptic_seg', 'pred_sem_seg'):
            assert torch.equal(one.get(name).sem_seg, two.get(name).sem_seg)
        torch.testing.assert_close(
            one.pred_instances.bboxes,
            two.pred_instances.bboxes,
            rtol=0,
            atol=1e-3)


def test_only_what_is_padded_alike_shares_a_batch(inferencer, monkeypatch):
    """The network's inputs: 96 x 128 twice at once, 64 x 128 by itself; batch
    by batch, as results are taken."""
    seen = []
    step = inferencer.model.test_step

    def note(data):
        seen.append([tuple(image.shape[1:]) for image in data['inputs']])
        return step(data)

    monkeypatch.setattr(inferencer.model, 'test_step', note)
    sizes = [(96, 128), (60, 128), (90, 128), (96, 128)]
    stream = inferencer.stream([tiny.picture(*size) for size in sizes], 3)
    prediction, drawn = next(stream)
    assert prediction['height'] == 96 and drawn is None
    assert seen == [[(96, 128), (90, 128)], [(60, 128)]]
    assert len(list(stream)) == 3 and seen[2:] == [[(96, 128)]]


def test_files_say_what_is_returned(inferencer, folder, tmp_path):
    out = tmp_path / 'out'
    path = folder / 'b.png'
    values = inferencer(path, pred_score_thr=SCORE, return_vis=True)
    found = inferencer(
        path, pred_score_thr=SCORE, return_vis=True, out_dir=str(out))
    assert names(out) == ['b_overlay.png', 'b_panoptic.png', 'b_segments.json']
    prediction, = found['predictions']
    assert set(prediction) == {
        'image', 'height', 'width', 'segments', 'overlay_path',
        'panoptic_seg_path', 'segments_path'
    }
    png = cv2.imread(prediction['panoptic_seg_path'])[..., ::-1]
    assert np.array_equal(rgb_to_id(png), maps(values)[0])
    with open(prediction['segments_path']) as file:
        content = json.load(file)
    assert content.pop('panoptic') == 'b_panoptic.png'
    assert content == {
        key: prediction[key]
        for key in ('image', 'height', 'width', 'segments')
    }
    overlay = cv2.imread(prediction['overlay_path'])[..., ::-1]
    assert np.array_equal(overlay, found['visualization'][0])
    assert np.array_equal(overlay, values['visualization'][0])


@pytest.mark.parametrize('options, written', [
    (['no_save_vis'], ['panoptic.png', 'segments.json']),
    (['no_save_pred'], ['overlay.png']),
    (['no_save_pred', 'no_save_vis'], []),
    (['return_datasamples'], ['overlay.png', 'panoptic.png', 'segments.json']),
])
def test_what_is_written(inferencer, tmp_path, options, written):
    found = inferencer(
        tiny.picture(), out_dir=str(tmp_path), **dict.fromkeys(options, True))
    stem = f'image_{inferencer.num_arrays}'
    assert names(tmp_path) == [f'{stem}_{name}' for name in written]
    assert found['visualization'] == []
    prediction, = found['predictions']
    if 'return_datasamples' in options:
        assert prediction.pred_instances.masks.shape[1:] == (96, 128)
    else:
        assert ('panoptic_seg' in prediction) == ('no_save_pred' in options)


def test_score_threshold_of_one_call(inferencer):
    own = dict(inferencer.model.panoptic_fusion_head.thresholds)
    for score in (0.0, SCORE, 0.8):
        found = inferencer(tiny.picture(), pred_score_thr=score)
        scores = [
            s['score'] for s in found['predictions'][0]['segments']
            if s['isthing']
        ]
        assert all(s >= score for s in scores)
        assert len(scores) > 0 or score == 0.8
    assert inferencer.model.panoptic_fusion_head.thresholds == own
    for score in (-0.1, 30):
        with pytest.raises(InputError, match=f'pred_score_thr={score}'):
            inferencer(tiny.picture(), pred_score_thr=score)
    with pytest.raises(InputError, match='batch_size=0'):
        inferencer(tiny.picture(), batch_size=0)


def test_folder_with_bad_files(inferencer, folder, tmp_path):
    """In order, without earlier results."""
    (folder / 'aa.jpg').write_bytes(b'\xff\xd8 cut off')
    (folder / 'cc.mp4').write_bytes(b'no video')
    for kind in ('overlay', 'panoptic'):
        (folder / f'a_{kind}.png').write_bytes(b'of an earlier run')
    inputs = [
        folder, folder / 'missing.png',
        np.zeros((4, 4), np.uint8),
        tiny.picture()
    ]
    found = inferencer(
        inputs, 3, return_vis=True, out_dir=str(tmp_path / 'out'))
    bad = [p for p in found['predictions'] if 'error' in p]
    assert len(found['predictions']) == 9 and len(bad) == 4
    for prediction, words in zip(
            bad, ('aa.jpg.*10 bytes', 'cc.mp4.*no frame', 'missing.png',
                  r'image \d+: an array of uint8 of shape \(4, 4\).*BGR')):
        assert set(prediction) == {'image', 'error'}
        assert re.search(words, prediction['error'])
        assert 'data_prefix' not in prediction['error']
    assert [
        p['panoptic_seg_path'] for p in found['predictions'][:6]
        if 'error' not in p
    ] == [
        str(tmp_path / 'out' / f'{stem}_panoptic.png')
        for stem in ('a', 'b', 'c', 'a_2')
    ]
    drawn = [picture is not None for picture in found['visualization']]
    assert drawn == ['error' not in p for p in found['predictions']]


@pytest.mark.parametrize('size', [(2, 900), (900, 2), (1, 1), (4, 3000)])
def test_thin_images(inferencer, tmp_path, size):
    """At 128 pixels the shorter side would have none."""
    found = inferencer(tiny.picture(*size), out_dir=str(tmp_path))
    prediction, = found['predictions']
    assert (prediction['height'], prediction['width']) == size
    png = cv2.imread(prediction['panoptic_seg_path'])
    assert png.shape[:2] == size
    assert cv2.imread(prediction['overlay_path']) is not None


def test_no_input_and_no_folder(inferencer, tmp_path, monkeypatch):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='no image'):
        inferencer(tmp_path / 'empty')
    (tmp_path / 'file').touch()
    out = str(tmp_path / 'file' / 'out')
    with pytest.raises(InputError, match=f'{out}: cannot write.*another'):
        inferencer(tiny.picture(), out_dir=out)

    def full(*args):
        raise OSError(28, 'No space left on device', 'x')

    monkeypatch.setattr(module, 'write_segments', full)
    with pytest.raises(InputError, match='No space left'):
        inferencer(tiny.picture(), out_dir=str(tmp_path))


def test_video(inferencer, video, tmp_path):
    """Frames give what they give as arrays; the overlay has them all."""
    out = tmp_path / 'out'
    options = dict(pred_score_thr=SCORE, return_vis=True)
    found = inferencer(video, 2, out_dir=str(out), **options)
    assert names(out) == ['clip_overlay.mp4']
    predictions = found['predictions']
    assert [p['frame'] for p in predictions] == [0, 1, 2]
    assert [p['last_frame'] for p in predictions] == [False, False, True]
    assert {p['image'] for p in predictions} == {str(video)}
    assert {p['overlay_path']
            for p in predictions} == {str(out / 'clip_overlay.mp4')}
    assert not any('panoptic_seg' in p for p in predictions)

    arrays = inferencer(list(VideoFrames(str(video))), **options)
    frames = inferencer(str(video), 3, **options)
    assert [p['segments'] for p in arrays['predictions']
            ] == [p['segments'] for p in predictions]
    assert all(map(np.array_equal, maps(arrays), maps(frames)))

    overlay = VideoFrames(str(out / 'clip_overlay.mp4'))
    assert overlay.fps == pytest.approx(10)
    for written, drawn in zip(overlay, found['visualization'], strict=True):
        assert written.shape == drawn.shape
        # H.264 is lossy
        assert np.abs(written[..., ::-1].astype(int) - drawn).mean() < 12


def test_frames_of_a_video(inferencer, video, folder, tmp_path):
    """Videos between images; two of one name."""
    out = tmp_path / 'out'
    other = folder / 'clip.mp4'
    other.write_bytes(video.read_bytes())
    found = inferencer([video, folder / 'a.png', other],
                       4,
                       out_dir=str(out),
                       save_frames=True,
                       no_save_vis=True)
    files = [
        f'{stem}_frames/{frame:06d}_{kind}' for stem in ('clip', 'clip_2')
        for frame in range(3) for kind in ('panoptic.png', 'segments.json')
    ]
    assert names(out) == sorted(files + ['a_panoptic.png', 'a_segments.json'])
    written = out / 'clip_frames/000002_segments.json'
    content = json.loads(written.read_text())
    assert content['frame'] == 2 and content['image'] == str(video)
    assert content['panoptic'] == '000002_panoptic.png'
    assert len(found['predictions']) == 7


def test_an_interrupted_video_leaves_nothing(inferencer, video, tmp_path):
    out = tmp_path / 'out'
    stream = inferencer.stream(video, 2, out_dir=str(out))
    next(stream)
    stream.close()
    assert names(out) == []


@pytest.fixture
def address(video):
    """Where a server sends the video, as a camera does."""

    class Handler(BaseHTTPRequestHandler):

        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Type', 'video/mp4')
            self.end_headers()
            self.wfile.write(video.read_bytes())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/live'
        server.shutdown()


def test_a_stream_until_it_ends_or_is_interrupted(inferencer, video, address,
                                                  tmp_path):
    """The same results as of the file; what there is of it is kept."""
    expected, found = (
        inferencer(source, pred_score_thr=SCORE)['predictions']
        for source in (str(video), address))
    assert [p['segments'] for p in found] == [p['segments'] for p in expected]
    assert [p['last_frame'] for p in found] == [False, False, True]
    for name, options in (('all', {}), ('two', dict(max_frames=2))):
        out = tmp_path / name
        for count, _ in enumerate(
                inferencer.stream(address, out_dir=str(out), **options), 1):
            if name == 'all' and count == 2:
                break  # also closes the generator
        assert names(out) == ['live_overlay.mp4']
        assert len(list(VideoFrames(str(out / 'live_overlay.mp4')))) == 2


def test_demo_of_a_folder_of_videos_and_streams(files, folder, video, address,
                                                tmp_path, monkeypatch, capsys):
    config, checkpoint = files
    for name in ('x.mp4', 'deep/y.MOV'):
        (folder / name).write_bytes(video.read_bytes())
    out = tmp_path / 'out'
    options = ('--config', config, '--checkpoint', checkpoint, '--out-dir',
               out, '--max-frames', 2)
    assert call_tool(monkeypatch, 'demo', folder, address, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if 'frames)' in line] == [
        f'[{i}/7] {source} -> {out / stem}_overlay.mp4 (2 frames)'
        for i, source, stem in ((5, folder / 'deep/y.MOV', 'y'),
                                (6, folder / 'x.mp4', 'x'), (7, address,
                                                             'live'))
    ]
    for source in ('rtsp://127.0.0.1:1/none', 'http://127.0.0.1:1/x.m3u8',
                   '97'):
        assert call_tool(monkeypatch, 'demo', source, *options) == 1
        said = capsys.readouterr().err
        assert f'error: {source}: a stream' in said
        assert 'data_prefix' not in said


def test_an_interrupted_demo(files, folder, tmp_path, monkeypatch, capsys):

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(PanopticInferencer, 'stream', interrupt)
    config, checkpoint = files
    assert call_tool(monkeypatch, 'demo', folder, '--config', config,
                     '--checkpoint', checkpoint, '--out-dir', tmp_path) == 1
    assert f'is in {tmp_path}' in capsys.readouterr().err


def test_demo(files, folder, video, tmp_path, monkeypatch, capsys):
    config, checkpoint = files
    model = ('--config', config, '--checkpoint', checkpoint)
    out = tmp_path / 'out'
    assert call_tool(monkeypatch, 'demo', folder, video, *model, '--out-dir',
                     out, '--batch-size', 2, '--score-thr', SCORE) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f'[{i}/5] {source} -> {out / overlay}'
        for i, source, overlay in ((1, folder / 'a.png', 'a_overlay.png'),
                                   (2, folder / 'b.png', 'b_overlay.png'),
                                   (3, folder / 'c.png', 'c_overlay.png'),
                                   (4, folder / 'deep/a.png',
                                    'a_2_overlay.png'),
                                   (5, video, 'clip_overlay.mp4 (3 frames)'))
    ]
    assert len(names(out)) == 4 * 3 + 1
    with open(out / 'a_segments.json') as file:
        made_with = json.load(file)['model']
    assert made_with['config'] == str(config)
    assert made_with['versions']['torch'] == torch.__version__
    assert made_with['weights'] == [
        dict(
            file=str(checkpoint),
            sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest())
    ]

    (folder / 'bad.png').write_bytes(b'')
    assert call_tool(monkeypatch, 'demo', folder / 'bad.png', folder / 'a.png',
                     *model, '--out-dir', out) == 1
    said = capsys.readouterr().err
    assert 'bad.png: 0 bytes' in said and '1 of 2 images' in said


@pytest.mark.parametrize('wrong', [('--batch-size', '0'), ('--score-thr', '2'),
                                   ('--max-frames', '0'),
                                   ('--config', 'none.py')])
def test_demo_with_wrong_arguments(files, folder, tmp_path, monkeypatch, wrong,
                                   capsys):
    config, checkpoint = files
    assert call_tool(monkeypatch, 'demo', folder, '--config', config,
                     '--checkpoint', checkpoint, '--out-dir', tmp_path / 'out',
                     *wrong) == 2
    assert wrong[1] in capsys.readouterr().err
