"""The Python API: the tools' settings and defaults, what it returns, and that importing it is cheap."""

import importlib.util
import inspect
import io
import json
import pydoc
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import asvit_mm
from asvit_mm.arch import PRESETS, Architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.errors import InputError
from asvit_mm.runs.settings import ScaleSettings, SearchSettings

from .test_tools.kills import files
from .test_tools.runs import TINY, TOOLS

QUICK = dict(data='digits', repeat=1, img_size=16, batch_size=4, device='cpu')
NAMES = {'search': SearchSettings, 'scale': ScaleSettings}
BUDGET = dict(min_params='5.2M', max_params='9M')


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """A search, its work dir, and what it printed."""
    folder = tmp_path_factory.mktemp('search') / 'run'
    with redirect_stdout(io.StringIO()) as printed:
        result = asvit_mm.search(**QUICK, steps=3, max_params=2_500_000, work_dir=str(folder))
    return result, folder, printed.getvalue()


@pytest.fixture(scope='module')
def scaled(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scale') / 'run'
    with redirect_stdout(io.StringIO()) as printed:
        result = asvit_mm.scale('seed', **QUICK, **BUDGET, work_dir=str(folder))
    return result, folder, printed.getvalue()


def parsed(name, *arguments):
    """What the tool's parser makes of a command line."""
    spec = importlib.util.spec_from_file_location('tool', TOOLS / f'{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    argv, sys.argv = sys.argv, [f'{name}.py', *arguments]
    try:
        return tool.parse_args()
    finally:
        sys.argv = argv


@pytest.mark.parametrize('name', NAMES)
def test_function_and_tool_have_the_same_arguments_and_defaults(name):
    required = ['seed'] if name == 'scale' else []
    parameters = inspect.signature(getattr(asvit_mm, name)).parameters
    assert list(parameters) == list(inspect.signature(NAMES[name]).parameters)
    assert parsed(name, *required) == NAMES[name](*required)
    if name == 'scale':
        assert parameters['arch'].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert parameters['work_dir'].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize('name', NAMES)
def test_help_describes_every_argument(name):
    function = getattr(asvit_mm, name)
    text = pydoc.plain(pydoc.render_doc(function))
    assert f'{name}(' in text
    assert 'settings' not in text.split('(')[1]
    sections = re.split(r'(?:Args|Raises):\n', inspect.getdoc(function))
    assert len(sections) == 3
    described = re.findall(r'^    (\w+): \S+', sections[1], re.MULTILINE)
    assert described == list(inspect.signature(function).parameters)
    assert 'InputError:' in sections[2]


@pytest.mark.parametrize('name', ['serach', '__wrong__'])
def test_a_name_that_is_not_there(name):
    with pytest.raises(AttributeError, match=f"'asvit_mm' has no attribute '{name}'"):
        getattr(asvit_mm, name)


def test_importing_the_package_is_cheap_and_its_names_come_when_used():
    code = (
        'import sys, asvit_mm\n'
        'assert set(asvit_mm.__all__) <= set(dir(asvit_mm))\n'
        'assert not {"torch", "mmengine", "numpy"} & set(sys.modules)\n'
        'assert asvit_mm.search is asvit_mm.api.search\n'
        'assert "torch" in sys.modules\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_type_checkers_see_the_arguments(tmp_path):
    script = tmp_path / 'use.py'
    script.write_text(
        'import asvit_mm\n'
        "asvit_mm.search(steps='5')\n"
        'asvit_mm.search(stesp=5)\n'
        'asvit_mm.scale()\n'
        "asvit_mm.scale('seed', repeat=1).series[0].macs + 1\n"
    )
    done = subprocess.run(
        [sys.executable, '-m', 'mypy', '--config-file=', '--no-site-packages',
         '--ignore-missing-imports', '--follow-imports=silent', f'--cache-dir={tmp_path}', script],
        capture_output=True, text=True, cwd=Path(asvit_mm.__file__).parents[1],
    )  # fmt: skip
    errors = [line.split(':')[1] for line in done.stdout.splitlines() if ' error: ' in line]
    assert errors == ['2', '3', '4'], done.stdout


def test_what_a_search_returns(found):
    result, folder, printed = found
    written = json.loads((folder / 'result.json').read_text())
    arch = result.architecture
    assert isinstance(arch, Architecture)
    assert str(arch) == written['arch']
    assert result.params == count_params(arch, 10, img_size=16) == written['params']
    assert result.macs == count_macs(arch, 16, 10) == written['macs']
    assert result.length_distortion == written['length_distortion'] > 0
    assert result.ntk_condition_number == written['ntk_condition_number'] >= 1
    assert result.work_dir == folder
    assert result.params <= 2_500_000
    assert [record['step'] for record in result.records] == [0, 1, 2]
    assert result.config == folder / written['config']
    assert result.detection_config == folder / written['detection_config']
    assert result.config.is_file()
    assert result.detection_config.is_file()
    assert str(arch) in printed
    assert 'search: 100%' in printed
    with pytest.raises(FrozenInstanceError):
        result.params = 0


def test_what_a_scaling_run_returns(scaled):
    result, folder, printed = scaled
    written = json.loads((folder / 'result.json').read_text())
    assert [str(member.architecture) for member in result.series] == [
        member['arch'] for member in written['series']
    ]
    assert len(result.series) > 1
    for member in result.series:
        arch = member.architecture
        assert arch.seed == PRESETS['seed']
        assert member.params == count_params(arch, 10, img_size=16)
        assert member.macs == count_macs(arch, 16, 10)
        assert member.config.is_file()
        assert member.detection_config.is_file()
    networks = {m.config: m for m in (*result.series, *result.front)}.values()
    configs = [m.config for m in networks] + [m.detection_config for m in networks]
    assert sorted(configs) == sorted((folder / 'configs').iterdir())
    assert [use['limit'] for use in result.budget] == ['--max-params']
    assert result.budget[0]['used'] == result.params
    assert result.race is None
    assert result.measured_on == {'data': 'digits', 'img_size': 16}
    macs = [network.macs for network in result.front]
    assert macs == sorted(set(macs))
    assert result.architecture == result.series[-1].architecture
    assert 5_200_000 <= result.params <= 9_000_000
    assert (result.stopped, result.targets) == (written['stopped'], {})
    assert sum('candidate' not in record for record in result.records) == len(result.series)
    assert str(result.architecture) in printed


def test_the_files_are_the_tools(found, here):
    before = files(found[1])
    assert 'result.json' in before
    run = ('search.py', '--steps', 3, '--max-params', '2.5M', *TINY, '--img-size', 16)
    here.run(*run, '--data', 'digits', '--work-dir', found[1], '--overwrite')
    assert files(found[1]) == before


def test_what_was_found_is_scaled(found, tmp_path, capsys):
    arch = found[0].architecture
    result = asvit_mm.scale(arch, **QUICK, min_params='1', work_dir=str(tmp_path / 'run'))
    assert result.architecture.seed == arch
    assert len(result.series) == 1
    again = asvit_mm.scale(
        str(arch), **QUICK, min_params='1', work_dir=str(tmp_path / 'run'), resume=True
    )
    assert again == result
    assert 'is complete' in capsys.readouterr().out


def test_mistakes_are_raised_and_not_printed(found, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match='exists already: give --resume'):
        asvit_mm.search(**QUICK, steps=3, work_dir=str(found[1]))
    with pytest.raises(InputError, match='neither a preset'):
        asvit_mm.scale('1,2,3', **QUICK)
    with pytest.raises(TypeError, match='stesp'):
        asvit_mm.search(stesp=3)
    assert capsys.readouterr() == ('', '')
    assert not (tmp_path / 'work_dirs').exists()


def test_targets_are_a_mapping_and_may_be_numbers(tmp_path, capsys):
    result = asvit_mm.scale(
        'seed', **QUICK, targets=['2.3M', 2_600_000], work_dir=str(tmp_path / 'r')
    )
    assert list(result.targets) == [2_300_000, 2_600_000]
    for target, network in result.targets.items():
        assert network.params <= target
        assert network.config.is_file()
        assert network.params == count_params(network.architecture, 10, img_size=16)
    assert result.targets[2_600_000] == result.series[-1]
    assert result.latency_ms is None
    assert str(result.targets[2_300_000].architecture) in capsys.readouterr().out
