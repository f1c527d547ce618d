"""``tools/check_env.py``: each finding and its command, from made-up facts."""
import json
import subprocess
import sys

import pytest

from .conftest import REPO_ROOT

with pytest.MonkeyPatch.context() as patch:  # as when a tool is run
    patch.syspath_prepend(REPO_ROOT / 'tools')
    import check_env
    from envcheck import checks
    from envcheck import facts as env

ORIGINALS = {
    'torch': '2.13.0', 'numpy': '2.4.6', 'opencv-python': '4.14.0.94',
    'mmengine': '0.10.7', 'mmcv-lite': '2.1.0', 'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2', 'pycocotools': '2.0.11',
    'cityscapesscripts': '2.3.0', 'scipy': '1.15.3', 'matplotlib': '3.10.9',
    'shapely': '2.1.2', 'terminaltables': '3.1.10', 'ftfy': '6.3.1',
    'regex': '2026.9.29', 'setuptools': '80.10.2', 'panoptic-fpn': '0.1.0',
    'kornia-rs': '0.2.0', 'tabulate': '0.10.0', 'msgspec': '0.23.0',
    'filelock': '4.1.0', 'jinja2': '3.1.6', 'av': '16.1.0'
}  # yapf: disable

FORKS = {
    'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1', 'onedl-mmsegmentation': '1.4.2'
}  # yapf: disable


def make(without=(), add=None, **fields):
    """Facts of a good environment, with changes."""
    names = {k: v for k, v in ORIGINALS.items() if k not in without}
    values = dict(
        executable='py',
        distributions=dict(names, **(add or {})),
        operators='none: plain',
        mmcv_cuda='not available')
    return env.Facts(**{**values, **fields})


def make_fork(**fields):
    return make(('mmengine', 'mmcv-lite', 'mmdet', 'mmsegmentation'), FORKS,
                **fields)


def only(findings):
    assert len(findings) == 1, findings
    return findings[0]


def test_good_environments_have_no_findings():
    headless = make(('opencv-python', ),
                    {'opencv-python-headless': '4.14.0.94'})
    forks = make_fork()  # mmcv 2.3.6 is theirs
    compiled = make(('mmcv-lite', ), {'mmcv': '2.1.0'})
    gpu = make(gpus=['A100'], mmcv_cuda='12.8')
    for facts in (make(), headless, compiled, gpu, forks):
        assert checks.diagnose(facts) == []
        assert facts.family == ('onedl' if facts is forks else 'openmmlab')
    del forks.distributions['onedl-mmsegmentation']
    assert only(checks.diagnose(forks)).command == (
        'py -m pip install onedl-mmsegmentation')


NO_EXT = "ModuleNotFoundError: No module named 'mmcv._ext'"
TOO_NEW = 'AssertionError: MMCV==2.2.0 is used but incompatible.'
NO_FTFY = "ModuleNotFoundError: No module named 'ftfy'"
NO_GL = ('ImportError: libGL.so.1: cannot open shared object file: No such '
         'file or directory')
AGAIN = '--force-reinstall --no-deps --no-cache-dir '
LITE = 'py -m pip install --no-deps --no-cache-dir mmcv-lite==2.1.0'
UNDER_GPU = dict(gpus=['A100'], torch_cuda='12.8')
TORCHVISION = 'py -m pip install torchvision "torch==2.13.0"'
#: An mmcv in the place of mmcv-lite.
OWN = dict(without=('mmcv-lite', ), add={'mmcv': '2.1.0'})
#: Changes of a good environment, words of the problem, end of the command.
FINDINGS = [
    (dict(without=('panoptic-fpn', )), 'panoptic_fpn is not installed',
     f'py -m pip install --no-deps -e {REPO_ROOT}'),
    (dict(add={'setuptools': '82.0.1'}, pkg_resources=False),
     'setuptools 82.0.1 has no pkg_resources',
     'py -m pip install "setuptools>=77.0.3,<81"'),
    (dict(without=('setuptools', ), pkg_resources=False),
     'setuptools is not installed', '"setuptools>=77.0.3,<81"'),
    # panoptic_fpn's operators stand in for mmcv's
    (dict(
        without=('panoptic-fpn', ), mmcv_cuda=None,
        errors={'mmcv.ops': NO_EXT, 'mmdet.models': NO_EXT}),
     'panoptic_fpn is not installed', f'--no-deps -e {REPO_ROOT}'),
    (dict(
        without=('mmcv-lite', ), mmcv_cuda=None,
        errors={'mmcv': NO_EXT, 'mmcv.ops': NO_EXT}),
     'mmcv is not installed', LITE),
    (dict(OWN, add={'mmcv': '2.2.0'}, errors={
        'mmdet.models': TOO_NEW,
        'mmseg.models': TOO_NEW
    }), 'mmcv 2.2.0 is too new', 'py -m pip uninstall -y mmcv && ' + LITE),
    # the fork's mmcv under the original mmdet
    (dict(OWN, add={'onedl-mmcv': '2.3.6'}, errors={'mmdet.models': TOO_NEW}),
     'is too new', 'py -m pip uninstall -y onedl-mmcv && ' + LITE),
    # compiled without CUDA, plain without torchvision, for another GPU
    (dict(OWN, **UNDER_GPU, operators='GCC 12.2'),
     'do not run on A100: they are built without CUDA (GCC 12.2)',
     'py -m pip uninstall -y mmcv && ' + LITE + ' && ' + TORCHVISION),
    (dict(UNDER_GPU, mmcv_cuda='12.8', errors={
        'mmcv.ops on the GPU': 'RunError: nms: neither mmcv nor torchvision'
    }), 'do not run on A100: RunError: nms', TORCHVISION),
    (dict(OWN, **UNDER_GPU, mmcv_cuda='12.8', errors={
        'mmcv.ops on the GPU':
        'RuntimeError: no kernel image is available for execution'
    }), 'do not run on A100', TORCHVISION),
    (dict(errors={
        'pycocotools.mask': 'ValueError: numpy.dtype size changed, may '
        'indicate binary incompatibility'
    }), 'another numpy than 2.4.6',
     f'py -m pip install {AGAIN}pycocotools==2.0.11'),
    (dict(errors={
        'cv2': 'ImportError: numpy.core.multiarray failed to import'
    }), 'another numpy than 2.4.6',
     f'py -m pip install {AGAIN}opencv-python==4.14.0.94'),
    (dict(errors={'torch': 'RuntimeError: Numpy is not available'}),
     'another numpy than 2.4.6',
     'py -m pip install "numpy<2" "opencv-python<4.12"'),
    (dict(OWN, mmcv_cuda=None, errors={
        'mmcv.ops':
        'ImportError: _ext.so: undefined symbol: _ZN2at4_ops5zeros4call'
    }), 'another torch than the installed 2.13.0',
     'py -m pip uninstall -y mmcv && ' + LITE),
    (dict(without=('ftfy', 'regex'), errors={
        'ftfy': NO_FTFY,
        'regex': NO_FTFY.replace('ftfy', 'regex'),
        'mmseg.models': NO_FTFY
    }), 'does not ask for them',
     'py -m pip install ftfy==6.3.1 regex==2026.9.29'),
    (dict(mmcv_cuda=None, errors=dict.fromkeys(
        ('cv2', 'mmengine', 'mmcv.ops', 'mmdet.models'), NO_GL)),
     'OpenCV does not load: libGL.so.1 is missing.',
     'apt-get install -y libgl1'),
    (dict(add={'torchvision': '0.20.0'}, errors={
        'torchvision': 'RuntimeError: operator torchvision::nms does not exist'
    }), 'torchvision 0.20.0 does not fit torch 2.13.0',
     'py -m pip uninstall -y torchvision'),
    (dict(UNDER_GPU, mmcv_cuda='12.8', add={'torchvision': '0.20.0'}, errors={
        'torchvision': 'RuntimeError: operator torchvision::nms does not exist'
    }), 'torchvision 0.20.0 does not fit torch 2.13.0', TORCHVISION),
    # what no check knows
    (dict(errors={'mmdet.models': 'the process ended with exit code -4'}),
     'exit code -4', 'mmdet==3.3.0'),
]  # yapf: disable


@pytest.mark.parametrize('changes, problem, command', FINDINGS)
def test_a_finding_and_its_command(changes, problem, command):
    found = only(checks.diagnose(make(**changes)))
    assert problem in found.problem
    for part in command.split(' && '):
        assert part in found.command
    assert found.command.endswith(command.split(' && ')[-1])


@pytest.mark.parametrize('names, module, wanted', [
    (['mmcv'], 'mmcv', 'install --no-deps mmcv-lite==2.1.0'),
    (['onedl-mmcv'], 'mmcv', 'install --no-deps mmcv-lite==2.1.0'),
    (['onedl-mmdetection'], 'mmdet', 'install --no-deps mmdet==3.3.0'),
    (['opencv-python-headless', 'opencv-contrib-python'], 'cv2',
     'install --no-deps opencv-python==4.14.0.94'),
])
def test_two_distributions_of_one_package(names, module, wanted):
    facts = make(add={name: '2.1.0' for name in names})
    found = only(checks.diagnose(facts))
    installed = facts.providers(module)
    assert len(installed) == 1 + len(names)
    assert ' and '.join(installed) + ' are both installed' in found.problem
    assert found.command.startswith('py -m pip uninstall -y ' +
                                    ' '.join(installed) + ' && ')
    assert found.command.endswith(wanted)


def test_an_empty_environment():
    missing = {
        name: f'ModuleNotFoundError: No module named {name!r}'
        for name in env.PROBES if name != 'torchvision'
    }
    facts = env.Facts(executable='my py', errors=missing)
    torch, rest, mmcv, _ = checks.diagnose(facts)
    assert torch.command == "'my py' -m pip install torch==2.13.0"
    assert rest.command.endswith('runtime.txt')
    assert mmcv.command.endswith('mmcv-lite==2.1.0')
    assert facts.family == 'none'


def test_what_the_system_lacks_is_one_command():
    assert checks.check_machine(env.MachineFacts()) == []
    bare = env.MachineFacts(
        venv=False,
        headers=False,
        compiler=False,
        missing_libraries=list(env.LIBRARIES))
    assert only(checks.check_machine(bare)).command == (
        'apt-get install -y python3-venv libgl1 libglib2.0-0')
    bare.compiles = True
    assert only(checks.check_machine(bare)).command == (
        'apt-get install -y python3-venv python3-dev g++ libgl1 libglib2.0-0')
    facts = env.MachineFacts(
        python=(3, 12),
        system_python=False,
        headers=False,
        compiles=True,
        root=False)
    assert only(checks.check_machine(facts)).command == (
        'sudo apt-get install -y python3.12-dev')


def test_the_forks_without_operators():
    facts = make_fork(**UNDER_GPU, operators='GCC 12.2')
    assert only(checks.diagnose(facts)).command == (
        'py -m pip uninstall -y onedl-mmcv && py -m pip install --no-deps '
        '--no-cache-dir onedl-mmcv==2.3.6 && ' + TORCHVISION)


def test_a_probe_that_ends_the_process_hides_no_other(tmp_path, monkeypatch):
    (tmp_path / 'ftfy.py').write_text('import os\nos.abort()\n')
    (tmp_path / 'regex.py').write_text('print("chatter")\n')
    (tmp_path / 'scipy').mkdir()
    (tmp_path / 'scipy' / '__init__.py').write_text('1 / 0\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    errors, _ = env.run_probes(['scipy.ndimage', 'ftfy', 'regex'])
    assert errors == {
        'scipy.ndimage': 'ZeroDivisionError: division by zero',
        'ftfy': 'the process ended with exit code -6'
    }


def test_this_environment():
    process = subprocess.run(
        [sys.executable, 'tools/check_env.py', '--json'],
        cwd=REPO_ROOT,
        capture_output=True,
        text=True)
    report = json.loads(process.stdout)
    assert report['findings'] == [], 'run tools/check_env.py for advice'
    assert report['usable'] and process.returncode == 0
    assert {'torch', 'numpy'} <= set(report['facts']['distributions'])


def test_the_report(capsys):
    facts = make(('mmcv-lite', ), **UNDER_GPU)
    check_env.print_report(facts, checks.diagnose(facts))
    text = capsys.readouterr().out
    assert '2.13.0, CUDA 12.8' in text
    assert '1: A100' in text
    assert 'Not usable, ' in text
    facts = make(add={'mmdet': '3.2.0'}, python='3.14.1')
    assert check_env.untested(facts) == [
        'Python 3.14.1; tested: 3.10 to 3.13',
        'mmdet 3.2.0; pinned: mmdet==3.3.0'
    ]
    assert check_env.slower(make()) == [
        'pycocotools counts AP, 7 times as long: py -m pip install '
        'hotcoco==1.3.0'
    ]
    assert check_env.slower(make(add={'hotcoco': '1.3.0'})) == []
