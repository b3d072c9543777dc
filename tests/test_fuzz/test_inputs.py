"""Inputs with a grammar, 3,250 random cases with fixed seeds: refused in one line, or read for what they are.

Architectures, schedules, options, counts, the JSON of work dirs, images.
"""

import copy
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from asvit_mm.analysis.settings import parse_size
from asvit_mm.arch import PRESETS, SEARCH_SPACE, Architecture, as_architecture
from asvit_mm.data.coco import _read, scan_coco
from asvit_mm.data.images import read_image
from asvit_mm.engine.options import parse_options
from asvit_mm.errors import InputError
from asvit_mm.runs.folder import RunFolder
from asvit_mm.runs.results import read_found
from asvit_mm.runs.run import known_measurements
from asvit_mm.token_schedule import read_schedule
from asvit_mm.tokens import as_pair
from asvit_mm.utils.units import parse_count

from ..test_runs.test_folder import RUN, work

FUZZ = settings(derandomize=True, deadline=None, database=None)
MANY, SOME = settings(FUZZ, max_examples=400), settings(FUZZ, max_examples=100)

SEEDS = st.tuples(*(st.sampled_from(range(len(v))) for v in SEARCH_SPACE.choices.values())).map(
    SEARCH_SPACE.decode
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@st.composite
def damaged(draw, whole):
    """A text of ``whole`` with up to three characters changed, inserted or deleted."""
    text = draw(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        text = (
            text[:at]
            + draw(st.text('0123456789,|@./-+=[](){}\'" \x00é', max_size=2))
            + text[at + 1 :]
        )
    return text


def one_line(call, *args):
    """What a call returns; None if it refuses in one line. Any other exception fails the test."""
    try:
        return call(*args)
    except InputError as error:
        said = str(error)
    assert '\n' not in said
    return None


@MANY
@given(SEEDS | st.builds(lambda a, d, w: a.with_size(d, w), SEEDS,
                         st.tuples(*[st.integers(1, 30)] * 4), st.integers(8, 1024)))  # fmt: skip
def test_architectures_and_their_strings(arch):
    assert Architecture.parse(str(arch)) == arch
    assert parse_options([f'arch={arch}']) == {'arch': str(arch)}


@MANY
@given(damaged(SEEDS.map(str)) | st.text(max_size=40) | JSON)
def test_what_is_no_architecture(spec):
    arch = one_line(as_architecture, spec)
    assert arch is None or str(arch) == spec or spec in PRESETS or isinstance(spec, dict)


@MANY
@given(damaged(st.sampled_from(['16@0.25,8@0.5,4@1.0', '16/1@8,8@14,4@30', '80-140'])) | JSON)
def test_schedules(spec):
    one_line(read_schedule, spec)


@SOME
@given(st.text('0123456789.,_kKMGBe+-infa xX', max_size=8) | st.text(max_size=8))
def test_counts_and_sizes(text):
    count = one_line(parse_count, text)
    assert count is None or 1 <= count <= 10**15
    one_line(parse_size, text)


@SOME
@given(JSON)
def test_sizes_of_images(value):
    pair = one_line(as_pair, value)
    assert pair is None or all(1 <= side <= 8192 for side in pair)


WORDS = st.text('abcXYZ_/. -é', min_size=1, max_size=8).map(str.strip).filter(
    lambda text: text and text.lower() not in ('true', 'false', 'none', '.', '-', '_')
)  # fmt: skip
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@MANY
@given(LITERALS)
def test_options_with_python_literals_are_read_as_such(value):
    assert parse_options([f'a={value!r}']) == {'a': value}


@SOME
@given(WORDS, st.lists(WORDS, min_size=2, max_size=4))
def test_options_with_words_stay(word, words):
    assert parse_options([f'a={word}', f'b=[{",".join(words)}]', f'c={",".join(words)}']) == {
        'a': word, 'b': words, 'c': words,
    }  # fmt: skip


@MANY
@given(st.text(max_size=30) | st.text('=,|@()[]{}\'"a1. ', max_size=40))
def test_options_of_any_text(text):
    one_line(parse_options, [text])
    one_line(parse_options, [f'a={text}'])


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'whole'
    work(folder)
    return folder


@settings(FUZZ, max_examples=150)
@given(
    name=st.sampled_from(['run.json', 'result.json', 'trace.jsonl', 'timing.jsonl']), data=st.data()
)
def test_json_of_a_work_dir(run, name, data):
    """Any JSON, any bytes, and single bytes changed: refused, or the run ends as it would have."""
    file = run / name
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    wrong = bytearray(before[file])
    for _ in range(data.draw(st.integers(1, 3))):
        wrong[data.draw(st.integers(0, len(wrong) - 1))] = data.draw(st.integers(0, 255))
    anything = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30)
    file.write_bytes(data.draw(st.just(bytes(wrong)) | anything))
    try:
        one_line(read_found, file)
        if one_line(lambda: work(run, resume=True)) is not None:
            assert (run / 'result.json').read_bytes() == before[run / 'result.json'] or (
                json.loads((run / 'result.json').read_bytes())
                == json.loads(before[run / 'result.json'])
            )
    finally:
        for path, content in before.items():
            path.write_bytes(content)


@SOME
@given(st.lists(st.dictionaries(
    st.sampled_from(['arch', 'length_distortion', 'ntk_condition_number', 'latency_ms', 'problem', 'x']),
    JSON | SEEDS.map(str), max_size=6,
), max_size=3))  # fmt: skip
def test_records_of_a_trace(records):
    one_line(known_measurements, records)


def test_another_result_than_the_runs_is_refused(run):
    assert RUN['task'] == json.loads((run / 'result.json').read_text())['task']
    with RunFolder(str(run), RUN, resume=True) as folder:
        assert folder.is_complete()


@pytest.fixture(scope='module')
def annotated(tmp_path_factory):
    """Two images with a box each, as COCO has them."""
    folder = tmp_path_factory.mktemp('coco')
    for name in ('a.png', 'b.png'):
        Image.new('RGB', (20, 16)).save(folder / name)
    content = {
        'categories': [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}],
        'images': [
            {'id': i, 'file_name': f'{name}.png', 'width': 20, 'height': 16}
            for i, name in enumerate('ab')
        ],
        'annotations': [
            {'id': i, 'image_id': i, 'category_id': i + 1, 'bbox': [1, 1, 8, 9], 'iscrowd': 0}
            for i in range(2)
        ],
    }
    return folder / 'train.json', content


@settings(FUZZ, max_examples=300)
@given(data=st.data(), value=JSON)
def test_annotations(annotated, data, value):
    """One value of any place replaced or removed."""
    file, content = annotated
    content = owner = copy.deepcopy(content)
    while True:
        key = data.draw(
            st.sampled_from(list(owner) if isinstance(owner, dict) else range(len(owner)))
        )
        if not isinstance(owner[key], dict | list) or not owner[key] or data.draw(st.booleans()):
            break
        owner = owner[key]
    if data.draw(st.booleans()):
        owner[key] = value
    else:
        del owner[key]
    file.write_text(json.dumps(content))
    _read.cache_clear()
    scan = one_line(scan_coco, file)
    assert scan is None or len(scan.classes) in (1, 2)


def images():
    """One small image of each format and mode, as bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    for suffix, mode in (
        *(('png', mode) for mode in ('L', 'LA', 'P', 'RGB', 'RGBA', '1')),
        *(('jpeg', 'RGB'), ('jpeg', 'L'), ('bmp', 'RGB'), ('ppm', 'RGB'), ('ppm', 'L')),
        *(('tiff', 'RGB'), ('webp', 'RGB'), ('webp', 'RGBA')),
    ):
        out = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(out, suffix)
        yield out.getvalue()


IMAGES = list(images())


@MANY
@given(data=st.data())
def test_bytes_of_images(tmp_path_factory, data):
    """Cut, changed, and any bytes: an RGB image or one line."""
    whole = data.draw(st.sampled_from(IMAGES))
    wrong = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if wrong:
            wrong[data.draw(st.integers(0, len(wrong) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / 'image.png'
    file.write_bytes(data.draw(st.just(bytes(wrong)) | st.binary(max_size=40)))
    image = one_line(read_image, file)
    assert image is None or image.mode == 'RGB'
