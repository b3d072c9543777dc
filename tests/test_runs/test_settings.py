"""Settings as Python and as a command line."""

import pytest

from asvit_mm.errors import InputError
from asvit_mm.runs.settings import MeasureSettings, ScaleSettings, SearchSettings
from asvit_mm.utils.command_line import as_arguments, field_help, parse

ALL = {'search': SearchSettings, 'scale': ScaleSettings, 'measure': MeasureSettings}


@pytest.mark.parametrize('settings', ALL.values(), ids=ALL)
def test_every_field_has_its_help(settings):
    helps = field_help(settings)
    assert [name for name in settings.__dataclass_fields__ if not helps.get(name)] == []


@pytest.mark.parametrize(
    'settings',
    [
        SearchSettings(steps=3, max_params='3M', remeasure=True, max_latency=2.5, device='cpu'),
        ScaleSettings('seed', targets=('2M', '3M'), progressive=True, device='cpu'),
        MeasureSettings(archs=('seed', 'large'), measures=('params',), device='cpu'),
    ],
    ids=ALL,
)
def test_the_command_line_gives_the_settings_back(settings):
    assert parse(type(settings), '', as_arguments(settings)) == settings


def test_flags_and_positionals_in_any_order():
    words = ['--device', 'cpu', 'seed', '--repeat', '2', 'large', '--measures', 'params', 'flops']
    settings = parse(MeasureSettings, '', words)
    assert settings.archs == ('seed', 'large')
    assert settings.measures == ('params', 'flops')


@pytest.mark.parametrize('words', [['--stesp', '3'], ['--steps', 'x'], ['x'], ['--img-size']])
def test_a_mistake_in_the_command_line_ends_with_status_2(words, capsys):
    with pytest.raises(SystemExit, match='2'):
        parse(SearchSettings, '', words)
    assert 'usage: ' in capsys.readouterr().err


def test_the_fingerprint_is_what_decides():
    first = SearchSettings(work_dir='a', data='digits', device='cpu', overwrite=True)
    second = SearchSettings(work_dir='b', data='digits', device='cpu', img_size=32, resume=True)
    assert first.fingerprint() == second.fingerprint()
    for change in ({'steps': 3}, {'seed': 1}, {'progressive': True}, {'repeat': 1}):
        other = SearchSettings(work_dir='a', data='digits', device='cpu', **change)
        assert other.fingerprint() != first.fingerprint()


@pytest.mark.parametrize('targets', ['29M', 29_000_000, 29e6])
def test_one_target_is_a_list_too(targets):
    with pytest.raises(InputError, match='is not a list'):
        ScaleSettings('seed', targets=targets)


def test_images_are_natural_unless_others_are_asked_for():
    for settings in (SearchSettings(device='cpu'), ScaleSettings('seed', device='cpu')):
        assert settings.source.spec == settings.fingerprint()['data'] == 'photographs'
    assert MeasureSettings(archs=('seed',), device='cpu').source.spec == 'photographs'


def test_resume_and_overwrite_exclude_each_other():
    with pytest.raises(InputError, match='give one'):
        SearchSettings(resume=True, overwrite=True)


def test_a_launcher_that_is_not_known():
    with pytest.raises(InputError, match="--launcher 'mpi' is not known: choose from none, py"):
        SearchSettings(launcher='mpi')
