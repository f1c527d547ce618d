"""Two gloo processes give the same bits as one."""
import subprocess
import sys

import torch

from tests.conftest import REPO_ROOT
from tests.metrics.gloo_worker import evaluate


def test_two_processes_give_the_bits_of_one(tmp_path):
    outs = [tmp_path / f'scores{rank}.pth' for rank in range(2)]
    processes = [
        subprocess.Popen([
            sys.executable, '-m', 'tests.metrics.gloo_worker',
            str(rank), '2',
            str(tmp_path / 'rendezvous'),
            str(out)
        ],
                         cwd=REPO_ROOT) for rank, out in enumerate(outs)
    ]
    for process in processes:
        assert process.wait(timeout=120) == 0
    expected = evaluate(0, 1)
    assert len(expected) == 24 and 'nan' not in expected['coco_panoptic/PQ']
    for out in outs:
        assert torch.load(out) == expected
    assert not (REPO_ROOT / '.dist_test').exists()
