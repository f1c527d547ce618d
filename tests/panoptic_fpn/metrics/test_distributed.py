"""Two gloo processes give the same bits as one."""
import subprocess
import sys

import torch

from tests.conftest import REPO_ROOT

from .gloo_worker import evaluate


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob('*') if path.is_file()
    }


def test_two_processes_give_the_bits_of_one(tmp_path):
    stray = tmp_path / 'refused' / 'r.semantic' / 'other.png'
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b'of another split')
    outs = [tmp_path / f'scores{rank}.pth' for rank in range(2)]
    processes = [
        subprocess.Popen([
            sys.executable, '-m', 'tests.panoptic_fpn.metrics.gloo_worker',
            str(rank), '2',
            str(tmp_path / 'rendezvous'),
            str(out),
            str(tmp_path / 'two' / 'r'),
            str(tmp_path / 'refused' / 'r')
        ],
                         cwd=REPO_ROOT) for rank, out in enumerate(outs)
    ]
    for process in processes:
        assert process.wait(timeout=120) == 0
    expected = evaluate(0, 1, str(tmp_path / 'one' / 'r'))
    assert len(expected['coco']) == 24 and len(expected['cityscapes']) == 16
    assert 'nan' not in expected['coco']['coco_panoptic/PQ']
    assert 'nan' not in expected['cityscapes'].values()
    first, second = map(torch.load, outs)
    # an error of the first process ends all of them, instead of a wait
    for found in (first, second):
        assert 'the first is other.png' in found.pop('refused')
    assert first == expected
    for key, scores in second.items():
        # only the first process has scores by class, and writes them
        assert scores == ({} if 'by class' in key else expected[key])
    files = contents(tmp_path / 'one')
    assert len(files) > 20 and files == contents(tmp_path / 'two')
    assert not (REPO_ROOT / '.dist_test').exists()
