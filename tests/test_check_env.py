"""``tools/check_env.py``: each finding and its command, from made-up facts."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module', autouse=True)
def tools_on_path():
    """tools/ first on the path, as when a tool is run as a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPO_ROOT / 'tools')
        yield


@pytest.fixture
def checks(tools_on_path):
    from envcheck import checks
    return checks


@pytest.fixture
def env(tools_on_path):
    from envcheck import facts
    return facts


ORIGINALS = {
    'torch': '2.13.0', 'numpy': '2.4.6', 'opencv-python': '4.14.0.94',
    'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0',
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

BUILD = ('MMCV_WITH_OPS=1 py -m pip install --no-build-isolation '
         '--no-cache-dir --force-reinstall --no-deps ')


def make(env, without=(), add=None, **fields):
    """Facts of a good environment, with changes."""
    names = {k: v for k, v in ORIGINALS.items() if k not in without}
    values = dict(
        executable='py',
        distributions={**names, **(add or {})},
        mmcv_cuda='not available')
    return env.Facts(**{**values, **fields})


def make_fork(env, **fields):
    return make(env, ('mmengine', 'mmcv', 'mmdet', 'mmsegmentation'), FORKS,
                **fields)


def only(findings):
    assert len(findings) == 1, findings
    return findings[0]


def test_a_good_environment_has_no_findings(checks, env):
    assert checks.diagnose(make(env)) == []
    assert make(env).family == 'openmmlab'


def test_the_packages_of_the_repository(checks, env):
    found = only(checks.diagnose(make(env, ('panoptic-fpn', ))))
    assert found.problem.startswith('panoptic_fpn is not installed')
    assert found.command.startswith('py -m pip install --no-deps -e ')


def test_the_forks_are_as_good(checks, env):
    facts = make_fork(env)
    assert facts.family == 'onedl'
    assert checks.diagnose(facts) == []  # mmcv 2.3.6 is theirs


def test_setuptools_without_pkg_resources(checks, env):
    facts = make(env, add={'setuptools': '82.0.1'}, pkg_resources=False)
    found = only(checks.diagnose(facts))
    assert found.problem.startswith('setuptools 82.0.1 has no pkg_resources')
    assert found.command == 'py -m pip install "setuptools>=77.0.3,<81"'
    facts = make(env, ('setuptools', ), pkg_resources=False)
    assert 'setuptools is not installed' in only(
        checks.diagnose(facts)).problem


@pytest.mark.parametrize('name', ['mmcv', 'mmcv-lite'])
def test_mmcv_without_operators(checks, env, name):
    facts = make(
        env, ('mmcv', ), {name: '2.1.0'},
        mmcv_cuda=None,
        errors={
            'mmcv.ops': "ModuleNotFoundError: No module named 'mmcv._ext'",
            'mmdet.models': "ModuleNotFoundError: No module named 'mmcv._ext'"
        })
    found = only(checks.diagnose(facts))
    assert 'no compiled operators' in found.problem
    assert found.command.endswith(BUILD + 'mmcv==2.1.0')
    assert ('uninstall -y mmcv-lite' in found.command) == (name != 'mmcv')


def test_mmcv_too_new_for_the_originals(checks, env):
    error = 'AssertionError: MMCV==2.2.0 is used but incompatible.'
    errors = {'mmdet.models': error, 'mmseg.models': error}
    facts = make(env, add={'mmcv': '2.2.0'}, errors=errors)
    found = only(checks.diagnose(facts))
    assert 'mmcv 2.2.0 is too new' in found.problem
    assert found.command.endswith(BUILD + 'mmcv==2.1.0')
    # The fork's mmcv under the original mmdet.
    facts = make(env, ('mmcv', ), {'onedl-mmcv': '2.3.6'}, errors=errors)
    found = only(checks.diagnose(facts))
    assert found.command.startswith('py -m pip uninstall -y onedl-mmcv && ')
    assert found.command.endswith(BUILD + 'mmcv==2.1.0')


@pytest.mark.parametrize('nvcc, words', [
    ('12.8', 'nvcc 12.8 is here'),
    (None, 'first install the CUDA toolkit 12.8'),
])
def test_gpu_without_cuda_operators(checks, env, nvcc, words):
    facts = make(env, gpus=['A100'], torch_cuda='12.8', nvcc=nvcc)
    found = only(checks.diagnose(facts))
    assert 'torch sees A100' in found.problem and words in found.problem
    assert found.command.endswith('FORCE_CUDA=1 ' + BUILD + 'mmcv==2.1.0')


def test_gpu_without_cuda_operators_of_the_fork(checks, env):
    found = only(checks.diagnose(make_fork(env, gpus=['A100'])))
    assert found.command.endswith('FORCE_CUDA=1 ' + BUILD +
                                  'onedl-mmcv==2.3.6')


def test_cuda_operators_of_another_gpu(checks, env):
    facts = make(
        env,
        gpus=['H100'],
        mmcv_cuda='12.8',
        errors={
            'mmcv.ops on the GPU':
            'RuntimeError: no kernel image is available for execution'
        })
    found = only(checks.diagnose(facts))
    assert 'do not run on H100' in found.problem
    assert 'TORCH_CUDA_ARCH_LIST=' in found.command
    assert checks.diagnose(make(env, gpus=['H100'], mmcv_cuda='12.8')) == []


@pytest.mark.parametrize('names, module, wanted', [
    (['mmcv-lite'], 'mmcv', BUILD + 'mmcv==2.1.0'),
    (['onedl-mmcv'], 'mmcv', BUILD + 'mmcv==2.1.0'),
    (['onedl-mmdetection'], 'mmdet', 'install --no-deps mmdet==3.3.0'),
    (['opencv-python-headless'], 'cv2',
     'install --no-deps opencv-python==4.14.0.94'),
    (['opencv-python-headless', 'opencv-contrib-python'], 'cv2',
     'install --no-deps opencv-python==4.14.0.94'),
])
def test_two_distributions_of_one_package(checks, env, names, module, wanted):
    facts = make(env, add={name: '2.1.0' for name in names})
    found = only(checks.diagnose(facts))
    installed = facts.providers(module)
    assert len(installed) == 1 + len(names)
    assert ' and '.join(installed) + ' are both installed' in found.problem
    assert found.command.startswith('py -m pip uninstall -y ' +
                                    ' '.join(installed) + ' && ')
    assert found.command.endswith(wanted)


def test_headless_opencv_alone_is_enough(checks, env):
    facts = make(env, ('opencv-python', ),
                 {'opencv-python-headless': '4.14.0.94'})
    assert checks.diagnose(facts) == []


@pytest.mark.parametrize('probe, error, command', [
    ('pycocotools.mask', 'ValueError: numpy.dtype size changed, may indicate '
     'binary incompatibility', 'py -m pip install --force-reinstall --no-deps '
     '--no-cache-dir pycocotools==2.0.11'),
    ('cv2', 'ImportError: numpy.core.multiarray failed to import',
     'py -m pip install --force-reinstall --no-deps --no-cache-dir '
     'opencv-python==4.14.0.94'),
    ('torch', 'RuntimeError: Numpy is not available',
     'py -m pip install "numpy<2" "opencv-python<4.12"'),
])
def test_numpy_mismatch(checks, env, probe, error, command):
    facts = make(env, errors={probe: error, 'mmdet.models': 'TypeError: x'})
    found = only(checks.diagnose(facts))
    assert 'another numpy than 2.4.6' in found.problem
    assert found.command == command


def test_mmcv_of_another_torch(checks, env):
    error = 'ImportError: _ext.so: undefined symbol: _ZN2at4_ops5zeros4call'
    facts = make(env, mmcv_cuda=None, errors={'mmcv.ops': error})
    found = only(checks.diagnose(facts))
    assert 'another torch than the installed 2.13.0' in found.problem
    assert found.command.endswith(BUILD + 'mmcv==2.1.0')


def test_ftfy_and_regex(checks, env):
    facts = make(
        env, ('ftfy', 'regex'),
        errors={
            'ftfy': "ModuleNotFoundError: No module named 'ftfy'",
            'regex': "ModuleNotFoundError: No module named 'regex'",
            'mmseg.models': "ModuleNotFoundError: No module named 'ftfy'"
        })
    found = only(checks.diagnose(facts))
    assert 'does not ask for them' in found.problem
    assert found.command == ('py -m pip install ftfy==6.3.1 regex==2026.9.29')


@pytest.mark.parametrize('library, package', [
    ('libGL.so.1', 'libgl1'),
    ('libgthread-2.0.so.0', 'libglib2.0-0'),
    ('libSM.so.6', 'libgl1 libglib2.0-0'),
])
def test_shared_libraries_of_opencv(checks, env, library, package):
    error = (f'ImportError: {library}: cannot open shared object file: No '
             'such file or directory')
    facts = make(
        env, mmcv_cuda=None,
        errors={'cv2': error, 'mmengine': error, 'mmcv.ops': error,
                'mmdet.models': error})  # yapf: disable
    found = only(checks.diagnose(facts))
    assert found.problem == f'OpenCV does not load: {library} is missing.'
    assert found.command == f'apt-get install -y {package}'


def test_torchvision_of_another_torch(checks, env):
    facts = make(
        env,
        add={'torchvision': '0.20.0'},
        errors={
            'torchvision':
            'RuntimeError: operator torchvision::nms does not exist'
        })
    found = only(checks.diagnose(facts))
    assert 'torchvision 0.20.0 does not fit torch 2.13.0' in found.problem
    assert found.command == 'py -m pip uninstall -y torchvision'


def test_an_empty_environment(checks, env):
    missing = {
        name: f'ModuleNotFoundError: No module named {name!r}'
        for name in env.PROBES if name != 'torchvision'
    }
    facts = env.Facts(executable='my py', errors=missing)
    torch, rest, mmcv, _ = checks.diagnose(facts)
    assert torch.command == "'my py' -m pip install torch==2.13.0"
    assert rest.command.endswith('runtime.txt')
    assert mmcv.command.endswith('mmcv==2.1.0')
    assert facts.family == 'none'


def test_a_missing_package_of_the_forks(checks, env):
    facts = make_fork(env)
    del facts.distributions['onedl-mmsegmentation']
    assert only(checks.diagnose(facts)).command == (
        'py -m pip install onedl-mmsegmentation')


def test_a_failure_that_no_check_knows(checks, env):
    facts = make(env, errors={'mmdet.models': 'the process ended with exit '
                              'code -4'})  # yapf: disable
    found = only(checks.diagnose(facts))
    assert 'exit code -4' in found.problem
    assert found.command.endswith('mmdet==3.3.0')


def test_what_the_system_lacks_is_one_command(checks, env):
    assert checks.check_machine(env.MachineFacts()) == []
    found = only(
        checks.check_machine(
            env.MachineFacts(
                venv=False,
                headers=False,
                compiler=False,
                missing_libraries=list(env.LIBRARIES))))
    assert found.command == ('apt-get install -y python3-venv python3-dev g++ '
                             'libgl1 libglib2.0-0')
    facts = env.MachineFacts(
        python=(3, 12), system_python=False, headers=False, root=False)
    assert only(checks.check_machine(facts)).command == (
        'sudo apt-get install -y python3.12-dev')


def test_a_gpu_without_toolkit_stops_before_the_build(checks, env):
    facts = make(env, gpus=['A100'], torch_cuda='12.8')
    assert 'nvcc is not here' in only(checks.check_cuda_toolkit(facts)).problem
    facts.nvcc = '11.8'
    assert 'CUDA 11.8' in only(checks.check_cuda_toolkit(facts)).problem
    facts.nvcc = '12.6'
    assert checks.check_cuda_toolkit(facts) == []
    assert checks.check_cuda_toolkit(make(env)) == []


def test_a_probe_that_ends_the_process_hides_no_other(env, tmp_path,
                                                      monkeypatch):
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


def run_tool(*arguments):
    return subprocess.run(
        [sys.executable, 'tools/check_env.py', *arguments],
        cwd=REPO_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True)


def test_this_environment():
    process = run_tool('--json')
    report = json.loads(process.stdout)
    assert report['findings'] == [], 'run tools/check_env.py for advice'
    assert report['usable'] and process.returncode == 0
    assert {'torch', 'numpy'} <= set(report['facts']['distributions'])


def test_the_report(checks, env, capsys):
    import check_env
    facts = make(env, ('mmcv', ), gpus=['A100'], torch_cuda='12.8')
    check_env.print_report(facts, checks.diagnose(facts))
    text = capsys.readouterr().out
    assert '2.13.0, CUDA 12.8' in text
    assert '1: A100' in text
    assert 'Not usable, ' in text
    facts = make(env, add={'mmdet': '3.2.0'}, python='3.13.1')
    assert check_env.untested(facts) == [
        'Python 3.13.1; tested: 3.10 to 3.12',
        'mmdet 3.2.0; pinned: mmdet==3.3.0'
    ]


def test_wrong_arguments():
    process = run_tool('everything')
    assert process.returncode == 2
    assert 'invalid choice' in process.stderr


def test_what_is_only_slower(env):
    import check_env
    assert check_env.slower(make(env)) == [
        'pycocotools counts AP, 7 times as long: py -m pip install '
        'hotcoco==1.3.0'
    ]
    assert check_env.slower(make(env, add={'hotcoco': '1.3.0'})) == []
