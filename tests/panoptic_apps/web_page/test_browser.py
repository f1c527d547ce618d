"""tools/webdemo.py in a real browser: upload, examples, results, a video."""
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from panoptic_fpn.visualization.image_io import write_image
from panoptic_fpn.visualization.video import VideoWriter
from tests import tiny
from tests.browser import fits, open_page

TOOL = tiny.REPO_ROOT / 'tools' / 'webdemo.py'

#: Cells of the table; gradio keeps a hidden copy of its first row.
CELLS = '#segments [role=gridcell]'

#: Seconds until the server listens; until a result is there.
START, RESULT = 120, 60


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    """Address of the tool, running with a random tiny model."""
    pytest.importorskip(
        'gradio', reason='no gradio: pip install -r requirements/webdemo.txt')
    pytest.importorskip(
        'playwright',
        reason='no playwright: pip install -r requirements/browser.txt')
    folder = tmp_path_factory.mktemp('webdemo')
    config, checkpoint = tiny.write_tiny_model(folder)
    examples = folder / 'examples'
    for i in range(2):
        write_image(str(examples / f'{i}.png'), tiny.picture(64, 96, seed=i))
    port = free_port()
    with open(folder / 'log.txt', 'w+') as log:
        command = [
            sys.executable, TOOL, config, checkpoint, '--port', port,
            '--examples', examples
        ]
        process = subprocess.Popen([*map(str, command)],
                                   stdout=log,
                                   stderr=subprocess.STDOUT,
                                   cwd=tiny.REPO_ROOT)
        try:
            url = f'http://127.0.0.1:{port}/'
            wait_for(url, process, folder / 'log.txt')
            yield url
        finally:
            process.terminate()
            process.wait(20)


def wait_for(url, process, log):
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            urlopen(url, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f'{TOOL} does not serve:\n{log.read_text()}')


def shown_picture(page, panel):
    """Pixels of a panel's picture as the browser has them: height, width."""
    image = page.locator(f'#{panel} img')
    image.wait_for(timeout=RESULT * 1000)
    page.wait_for_function(
        'panel => { const i = document.querySelector(`#${panel} img`);'
        ' return i && i.complete && i.naturalWidth > 0 }',
        arg=panel)
    return image.evaluate('i => [i.naturalHeight, i.naturalWidth, i.src]')


def test_drop_an_image(server, tmp_path):
    path = tmp_path / 'blocks.png'
    write_image(str(path), tiny.picture(96, 128))
    with open_page(server) as (page, errors):
        page.locator('#photograph input[type=file]').set_input_files(str(path))
        found = [
            shown_picture(page, panel)
            for panel in ('photo', 'instances', 'semantic')
        ]
        assert [size for *size, _ in found] == [[768, 1024]] * 3
        assert len({source for *_, source in found}) == 3
        assert 'blocks.png: 128 x 96' in page.locator('#message').inner_text()
        cells = page.locator(CELLS)
        cells.get_by_text('%').first.wait_for(timeout=RESULT * 1000)
        assert cells.count() % 6 == 0
        assert page.locator('h1').inner_text() == 'Panoptic FPN'

        # the merge takes the score that is set: none reaches 1
        things = cells.get_by_text('thing', exact=True)
        score = page.locator('input[type=number]')
        for value, state in (('1', 'detached'), ('0.3', 'visible')):
            score.fill(value)
            score.press('Tab')
            things.first.wait_for(state=state, timeout=RESULT * 1000)

        # a second, unusable one takes the results away and says why
        bad = tmp_path / 'bad.png'
        bad.write_bytes(b'no picture')
        page.get_by_label('Clear').first.click()
        page.locator('#photograph input[type=file]').set_input_files(str(bad))
        page.get_by_text('Cannot be used').wait_for(timeout=RESULT * 1000)
        assert 'bad.png: 10 bytes' in page.locator('#message').inner_text()
        assert page.locator('#panoptic img').count() == 0
        assert cells.get_by_text('%').count() == 0
        assert errors == []


def test_point_at_a_name(server):
    """It shows that segment alone; examples give results, too."""
    with open_page(server) as (page, errors):
        page.locator('#examples img').nth(1).click()
        names = page.locator('#panoptic .legend-item')
        names.first.wait_for(timeout=RESULT * 1000)
        assert '1.png: 96 x 64' in page.locator('#message').inner_text()
        masks = page.locator('#panoptic .mask')
        shown = 'all => all.map(one => getComputedStyle(one).opacity > 0.9)'
        assert not any(masks.evaluate_all(shown))
        found = names.all_inner_texts()
        cells = page.locator(CELLS).all_inner_texts()
        classes = [text.rsplit(' ', 1)[0] for text in found]
        assert len({*found}) == len(found) == masks.count()
        assert any(name in cells for name in (*found, *classes))
        last = names.last
        last.hover()
        page.wait_for_timeout(500)  # it fades in
        assert masks.evaluate_all(shown) == [False] * (len(found) - 1) + [True]
        assert errors == []


def test_a_video(server, tmp_path):
    path = tmp_path / 'clip.mp4'
    writer = VideoWriter(str(path), 10)
    for i in range(3):
        writer.write(tiny.picture(64, 96, seed=i))
    writer.close()
    bad = tmp_path / 'bad.mp4'
    bad.write_text('no video')
    with open_page(server, width=390) as (page, errors):
        page.get_by_role('tab', name='Video').click()
        message = page.locator('#video-message')
        for file, told in ((bad, 'bad.mp4: 8 bytes'), (path,
                                                       '3 frames, done')):
            page.locator('#video input[type=file]').set_input_files(str(file))
            page.locator('#video video').wait_for(timeout=RESULT * 1000)
            page.get_by_role('button', name='Segment').click()
            message.get_by_text(told).wait_for(timeout=RESULT * 1000)
            assert fits(page)
            page.get_by_label('Clear').first.click()
        overlay = page.locator('#overlay video')
        overlay.wait_for(timeout=RESULT * 1000)
        page.wait_for_function(
            'document.querySelector("#overlay video").videoWidth == 960')
        assert str(tmp_path) not in page.locator('body').inner_text()
        assert errors == []


@pytest.mark.parametrize('width', [390, 1400])
def test_width(server, width):
    with open_page(server, width) as (page, _):
        page.locator('#examples img').first.click()
        shown_picture(page, 'semantic')
        page.locator(CELLS).get_by_text('%').first.wait_for()
        assert fits(page)
