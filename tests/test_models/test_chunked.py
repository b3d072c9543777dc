import copy
from itertools import product
from types import MethodType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from asvit_mm.models import AsViT, layers
from asvit_mm.models import linear as linear_module
from asvit_mm.models.chunked import attention, feed_forward, merging, parts
from asvit_mm.models.chunked.attention import Heads
from asvit_mm.models.chunked.merging import merge
from asvit_mm.models.layers import Block, FeedForward, WindowAttention
from asvit_mm.models.merging import PatchMerging
from asvit_mm.ops.attention import has_kernel

GELU = dict(type='GELU')
LN = dict(type='LN')


@pytest.fixture(autouse=True, scope='module')
def small_layers_in_chunks():
    """Of seven rows at least, and of layers that would be too small for it."""
    if not has_kernel():
        pytest.skip('attention runs in chunks through a kernel that no compiler made here')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, 'ROWS', 7)
        patch.setattr(parts, 'SIZE', 1)
        patch.setattr(attention, 'HEADS_AT_ONCE', 1)
        for module in (merging, linear_module):
            patch.setattr(module, 'SMALLEST', 1)
        yield


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def drawn(*sizes, seed=0, dtype=torch.float32):
    generator = _generator(seed)
    made = (torch.randn(size, generator=generator) for size in sizes)
    return [one.to(dtype).requires_grad_() for one in made]


def feed_forward_inputs(*lead, width=12, hidden=20, seed=0):
    norm = (width,), (width,)
    linear = (hidden, width), (hidden,), (width, hidden), (width,)
    return drawn((*lead, width), *norm, *linear, seed=seed)


FOUR_HEADS = Heads(4, 0.7, 1e-5)


def attention_inputs(batch=2, windows=3, tokens=3, width=14, dim=3, seed=0):
    inner = FOUR_HEADS.number * dim
    norm = (width,), (width,)
    linear = (3 * inner, width), (3 * inner,), (width, inner), (width,)
    made = drawn((batch, windows, tokens, width), *norm, *linear, seed=seed)
    # Weights that keep scores where a softmax is no choice of one token.
    return [made[0], *((one.detach() / 4).requires_grad_() for one in made[1:])]


def padding(batch=2, windows=3, tokens=3, seed=0):
    """A mask that leaves each window another number of tokens, one at least."""
    counts = torch.randint(1, tokens + 1, (batch * windows,), generator=_generator(seed))
    return (torch.arange(tokens) < counts[:, None])[:, None, None]


def merging_inputs(batch, height, width, channels=5, kernel=4, out=6, seed=0):
    size = channels * kernel**2
    sizes = (batch, height, width, channels), (size,), (size,), (out, size)
    return drawn(*sizes, seed=seed)


def chunked_feed_forward(x, scale, shift, weight1, bias1, weight2, bias2):
    parts = (scale, shift), (weight1, bias1), (weight2, bias2)
    if feed_forward.takes_feed_forward(x, *parts):
        return feed_forward.feed_forward(x, *parts, 1e-5)
    return feed_forward.feed_forward_plainly(
        (x, scale, shift, weight1, bias1, weight2, bias2), 1e-5
    )


def normed(x, scale, shift):
    return x if scale is None else F.layer_norm(x, scale.shape, scale, shift, 1e-5)


def plain_feed_forward(x, scale, shift, weight1, bias1, weight2, bias2):
    return F.linear(F.gelu(F.linear(normed(x, scale, shift), weight1, bias1)), weight2, bias2)


def without_norm(function):
    return lambda x, *linear: function(x, None, None, *linear)


def chunked_attention(mask=None):
    def attended(x, scale, shift, weight1, bias1, weight2, bias2):
        parts = (scale, shift), (weight1, bias1), (weight2, bias2)
        if attention.takes_attention(x, *parts, FOUR_HEADS, mask):
            return attention.attention(x, *parts, FOUR_HEADS, mask)
        tensors = (x, scale, shift, weight1, bias1, weight2, bias2)
        return attention.attention_plainly(tensors, FOUR_HEADS, mask)

    return attended


def plain_attention(mask=None):
    """Explicitly, window by window's scores at once."""

    def attended(x, scale, shift, weight1, bias1, weight2, bias2):
        qkv = F.linear(normed(x, scale, shift), weight1, bias1)
        q, k, v = qkv.flatten(0, 1).unflatten(-1, (3, FOUR_HEADS.number, -1)).permute(2, 0, 3, 1, 4)
        scores = FOUR_HEADS.scale * q @ k.mT
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        out = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return F.linear(out.view(*x.shape[:-1], -1), weight2, bias2)

    return attended


def chunked_merge(kernel):
    return lambda x, scale, shift, weight: merge(x, (scale, shift), weight, kernel, 1e-5)


def plain_merge(kernel):
    """By torch's own Unfold, as the published code merges."""

    def merged(x, scale, shift, weight):
        patches = F.unfold(x.permute(0, 3, 1, 2), kernel, stride=2).transpose(1, 2)
        out = F.linear(F.layer_norm(patches, scale.shape, scale, shift, 1e-5), weight)
        return out.unflatten(1, ((x.shape[1] - kernel) // 2 + 1, -1))

    return merged


def agree(function, twin, inputs):
    """Outputs and gradients against the explicit layers in float64."""
    out = function(*inputs)
    assert 'Chunked' in type(out.grad_fn).__name__
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(out, inputs, grad)
    doubled = [one.detach().double().requires_grad_() for one in inputs]
    expected = twin(*doubled)
    wanted = torch.autograd.grad(expected, doubled, grad.double())
    for got, want in zip((out, *found), (expected, *wanted), strict=True):
        torch.testing.assert_close(
            got.double(), want, rtol=0, atol=1e-5 * want.abs().max().item() + 1e-6
        )


@pytest.mark.parametrize('lead', [(1,), (7,), (8,), (30,), (2, 3, 11)], ids=str)
def test_feed_forward_of_the_plain_layers(lead):
    agree(chunked_feed_forward, plain_feed_forward, feed_forward_inputs(*lead))


@given(st.integers(1, 60), st.integers(4, 20), st.integers(1, 30), st.integers(0, 100))
@settings(max_examples=30)
def test_feed_forward_of_any_shape(rows, width, hidden, seed):
    inputs = feed_forward_inputs(rows, width=width, hidden=hidden, seed=seed)
    agree(chunked_feed_forward, plain_feed_forward, inputs)


def test_weights_gradients_are_added_in_place():
    """Chunk by chunk to the first one's, which nothing else holds."""
    sums = parts.Sums()
    grad, inputs = (one.detach() for one in drawn((8, 3), (8, 5)))
    for times in (1, 2, 3):
        before = sums.get(0)
        sums.add_weight(0, grad, inputs)
        assert before is None or sums[0] is before
        torch.testing.assert_close(sums[0], times * grad.t() @ inputs)


def test_feed_forward_without_a_norm():
    inputs = feed_forward_inputs(30)
    del inputs[1:3]
    agree(without_norm(chunked_feed_forward), without_norm(plain_feed_forward), inputs)


@pytest.mark.parametrize('masked', [False, True], ids=['all tokens', 'padding'])
@pytest.mark.parametrize('size', [(1, 1, 1), (1, 1, 40), (3, 1, 5), (2, 3, 11), (2, 5, 3)], ids=str)
def test_attention_of_the_plain_layers(size, masked):
    mask = padding(*size) if masked else None
    agree(chunked_attention(mask), plain_attention(mask), attention_inputs(*size))


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 20)),
    st.integers(4, 20),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 100),
)
@settings(max_examples=30)
def test_attention_of_any_shape(size, width, dim, masked, seed):
    mask = padding(*size, seed=seed) if masked else None
    inputs = attention_inputs(*size, width, dim, seed)
    agree(chunked_attention(mask), plain_attention(mask), inputs)


def test_attention_without_a_norm():
    inputs = attention_inputs()
    del inputs[1:3]
    agree(without_norm(chunked_attention()), without_norm(plain_attention()), inputs)


def test_windows_are_attended_to_some_at_a_time(monkeypatch):
    """Of rows enough, and of heads enough for as many threads; the last chunk may be smaller."""
    x = attention_inputs(7, 1, 3)[0].detach()

    def windows():
        return [taken for taken, _ in attention._windows(x, 1, FOUR_HEADS)]

    assert windows() == [slice(0, 3), slice(3, 6), slice(6, 7)]
    monkeypatch.setattr(attention, 'HEADS_AT_ONCE', 16)
    assert windows() == [slice(0, 4), slice(4, 7)]
    parts = [part for _, part in attention._windows(x, 1, FOUR_HEADS)]
    torch.testing.assert_close(torch.cat(parts), x.flatten(0, 2), rtol=0, atol=0)


@pytest.mark.parametrize('kernel', [2, 3, 4])
@pytest.mark.parametrize('images', [1, 3])
def test_merging_of_the_plain_layers(kernel, images):
    height, width = kernel + 2 * 3, kernel + 2 * 4
    inputs = merging_inputs(images, height, width, kernel=kernel)
    agree(chunked_merge(kernel), plain_merge(kernel), inputs)


@given(
    st.sampled_from([2, 3, 4]),
    st.tuples(st.integers(2, 7), st.integers(0, 5), st.integers(0, 5)),
    st.integers(1, 7),
    st.integers(0, 1000),
)
@settings(max_examples=30)
def test_merging_of_any_shape(kernel, patches, channels, seed):
    images, rows, columns = patches[0], 1 + patches[1], 1 + patches[2]
    # Few outputs, since it is for patches that outnumber them.
    out = images * rows * columns // 2
    size = kernel + 2 * (rows - 1), kernel + 2 * (columns - 1)
    inputs = merging_inputs(images, *size, channels, kernel, out, seed)
    agree(chunked_merge(kernel), plain_merge(kernel), inputs)


def test_images_are_merged_some_at_a_time():
    """Chunks do not begin at the first image only, and the last one may be smaller."""
    x = merging_inputs(5, 6, 6)[0].detach()
    chunks = [images for images, _ in merging._patches(x, 4)]
    assert chunks == [slice(0, 2), slice(2, 4), slice(4, 5)]


CASES = {
    'attention': (chunked_attention(), plain_attention(), attention_inputs),
    'attention with padding': (
        chunked_attention(padding()),
        plain_attention(padding()),
        attention_inputs,
    ),
    'feed-forward': (chunked_feed_forward, plain_feed_forward, lambda: feed_forward_inputs(2, 15)),
    'merging': (chunked_merge(4), plain_merge(4), lambda: merging_inputs(3, 8, 10)),
}


@pytest.mark.parametrize('case', CASES)
def test_any_part_may_be_frozen(case):
    function, twin, make = CASES[case]
    for needed in product([False, True], repeat=len(make())):
        if not any(needed):
            continue
        inputs = [one.detach().requires_grad_(n) for one, n in zip(make(), needed, strict=True)]
        wanted = [one for one in inputs if one.requires_grad]
        for got, want in zip(
            torch.autograd.grad(function(*inputs).sin().sum(), wanted),
            torch.autograd.grad(twin(*inputs).sin().sum(), wanted),
            strict=True,
        ):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('case', CASES)
def test_gradients_of_gradients(case):
    function, twin, make = CASES[case]
    inputs = make()

    def second(f):
        first = torch.autograd.grad(f(*inputs).sin().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(one.sin().sum() for one in first), inputs)

    for got, want in zip(second(function), second(twin), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * want.abs().max().item())


def twice(function, pad=0):
    """A layer that is called again on what it gave."""

    def called(x, *weights):
        return function(F.pad(function(x, *weights), (0, 0, pad, pad, pad, pad)), *weights)

    return called


SHARED = {
    'attention': (twice(chunked_attention()), twice(plain_attention()), attention_inputs),
    'feed-forward': (
        twice(chunked_feed_forward),
        twice(plain_feed_forward),
        CASES['feed-forward'][2],
    ),
    'merging': (
        twice(chunked_merge(2), 2),
        twice(plain_merge(2), 2),
        lambda: merging_inputs(3, 8, 10, channels=5, kernel=2, out=5),
    ),
    'tied': (
        lambda x, s, b, w, b1, b2: chunked_feed_forward(x, s, b, w, b1, w.t(), b2),
        lambda x, s, b, w, b1, b2: plain_feed_forward(x, s, b, w, b1, w.t(), b2),
        lambda: [one for i, one in enumerate(feed_forward_inputs(2, 15)) if i != 5],
    ),
    'one weight for both': (
        lambda x, s, b, w, b1, b2: chunked_feed_forward(x, s, b, w, b1, w, b2),
        lambda x, s, b, w, b1, b2: plain_feed_forward(x, s, b, w, b1, w, b2),
        lambda: [
            one for i, one in enumerate(feed_forward_inputs(2, 15, width=12, hidden=12)) if i != 5
        ],
    ),
}


@pytest.mark.parametrize('create_graph', [False, True])
@pytest.mark.parametrize('case', SHARED)
def test_weights_that_are_used_twice(case, create_graph):
    function, twin, make = SHARED[case]
    inputs = make()
    found, wanted = (
        torch.autograd.grad(f(*inputs).sin().sum(), inputs, create_graph=create_graph)
        for f in (function, twin)
    )
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


@pytest.mark.parametrize('create_graph', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_hooks_of_tensors_are_called_once(case, create_graph):
    function, twin, make = CASES[case]
    results = []
    for f in (function, twin):
        inputs = make()
        doubled = [one * 1 for one in inputs]
        for one in doubled:
            one.register_hook(lambda grad: 2 * grad)
        out = f(*doubled).sin().sum()
        results.append(torch.autograd.grad(out, inputs, create_graph=create_graph))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


@pytest.mark.parametrize('cases', [CASES, SHARED], ids=['once', 'twice'])
def test_batched_gradients(cases):
    for function, _, make in cases.values():
        agree_batched(function, make())


def agree_batched(function, inputs):
    out = function(*inputs)
    directions = torch.randn(3, *out.shape, generator=torch.Generator().manual_seed(2))
    batched = torch.autograd.grad(out, inputs, directions, is_grads_batched=True, retain_graph=True)
    for i, direction in enumerate(directions):
        single = torch.autograd.grad(out, inputs, direction, retain_graph=True)
        for got, want in zip(batched, single, strict=True):
            torch.testing.assert_close(got[i], want, rtol=1e-4, atol=1e-4)


def test_attention_is_not_for_who_looks():
    """Nor without a gradient; the layers are called one by one then."""
    x, scale, shift, weight1, bias1, weight2, bias2 = attention_inputs()

    def takes(x, mask=None, bias=bias2):
        parts = (scale, shift), (weight1, bias1), (weight2, bias)
        return attention.takes_attention(x, *parts, FOUR_HEADS, mask)

    assert takes(x)
    assert takes(x, padding())
    with FlopCounterMode(display=False):
        assert not takes(x)
    with torch.no_grad():
        assert not takes(x)
    with torch.autocast('cpu'):
        assert not takes(x)
    assert not takes(x.double())
    assert not takes(x.flatten(0, 1))
    assert not takes(x, padding()[1:])
    assert not takes(x, padding().float())
    assert not takes(x, bias=bias2[1:])
    assert not takes(x, bias=bias2[:, None])
    assert not takes(x, bias=bias2[0])


@pytest.mark.parametrize('case', ['feed-forward', 'merging'])
def test_who_looks_sees_the_plain_operations(case):
    function, twin, make = CASES[case]
    counts = []
    for f in (function, twin):
        with FlopCounterMode(display=False) as counter:
            f(*make())
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize('case', CASES)
def test_tensors_kept_elsewhere(case):
    """Hooks that keep copies in another layout, as offloading may."""
    function, twin, make = CASES[case]
    inputs = make()

    def pack(tensor):
        return tensor.movedim(0, -1).contiguous()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.movedim(-1, 0)):
        found = torch.autograd.grad(function(*inputs).sin().sum(), inputs)
    for got, want in zip(
        found, torch.autograd.grad(twin(*inputs).sin().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('frozen', [False, True])
def test_a_hidden_layer_kept_in_another_type(frozen):
    """By hooks: the plain operations compute it again."""
    inputs = feed_forward_inputs(30)
    inputs[5].requires_grad_(not frozen)
    wanted = [one for one in inputs if one.requires_grad]
    own = {one.data_ptr() for one in inputs}

    def unpack(tensor):
        return tensor if tensor.data_ptr() in own else tensor.bfloat16()

    grad = torch.randn(30, 12, generator=torch.Generator().manual_seed(1))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        out = chunked_feed_forward(*inputs)
    found = torch.autograd.grad(out, wanted, grad)
    expected = torch.autograd.grad(plain_feed_forward(*inputs), wanted, grad)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_what_is_kept_for_the_backward_pass():
    """Neither patches nor what leaves a norm or the activation, nor queries, keys and values.

    Tokens, the hidden layer once, what the heads give, and parameters.
    """
    inputs = merging_inputs(3, 8, 10)
    out = chunked_merge(4)(*inputs)
    assert {t.data_ptr() for t in out.grad_fn.saved_tensors} == {t.data_ptr() for t in inputs}
    inputs = feed_forward_inputs(30)
    out = chunked_feed_forward(*inputs)
    kept = out.grad_fn.saved_tensors
    assert [t.data_ptr() for t in kept[:7]] == [t.data_ptr() for t in inputs]
    assert torch.cat(kept[7:]).shape == (30, 20)
    inputs = attention_inputs()
    out = chunked_attention()(*inputs)
    kept = out.grad_fn.saved_tensors
    assert [t.data_ptr() for t in kept[:7]] == [t.data_ptr() for t in inputs]
    assert kept[7] is None  # the mask
    assert torch.cat(kept[8::2]).shape == (6, 3, 4, 3)
    assert torch.cat(kept[9::2]).shape == (6, 4, 3)


def test_what_is_frozen_keeps_nothing():
    inputs = [one.detach() for one in feed_forward_inputs(30)]
    assert chunked_feed_forward(*inputs).grad_fn is None
    inputs[-1].requires_grad_()
    out = chunked_feed_forward(*inputs)
    assert len(out.grad_fn.saved_tensors) == len(inputs)
    inputs = [one.detach() for one in attention_inputs()]
    assert chunked_attention()(*inputs).grad_fn is None
    inputs[-1].requires_grad_()
    out = chunked_attention()(*inputs)
    assert 'Chunked' in type(out.grad_fn).__name__
    assert len(out.grad_fn.saved_tensors) == len(inputs) + 1  # the mask


@pytest.mark.parametrize('case', CASES)
def test_shapes_that_do_not_fit_are_refused_by_torch(case):
    function, twin, make = CASES[case]
    for i in range(1, len(make())):
        inputs = make()
        inputs[i] = inputs[i][..., :-1].detach()
        with pytest.raises(RuntimeError) as expected:
            twin(*inputs)
        with pytest.raises(RuntimeError) as found:
            function(*inputs)
        assert str(found.value).split(',')[0] == str(expected.value).split(',')[0]


def block():
    torch.manual_seed(0)
    return Block(12, 3, 2, 0.0, 0.0, LN, GELU, recompute_attention=True)


def layer(**settings):
    torch.manual_seed(0)
    return FeedForward(12, 20, GELU, **settings)


def test_layers_in_chunks_give_what_they_give_one_by_one():
    made, merging = block(), PatchMerging(5, 6, 4, LN)
    for module, size in ((made, (2, 3, 15, 12)), (merging, (3, 8, 9, 5))):
        x = torch.randn(size, generator=torch.Generator().manual_seed(1))
        chunks = {name for name in nodes(module(x)) if 'Chunked' in name}
        assert len(chunks) == (2 if module is made else 1)
        with torch.no_grad():
            expected = copy.deepcopy(module).double()(x.double()).float()
            torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


def nodes(out):
    """Names of what a result was made by, but for the sums of residuals."""
    found, waiting = set(), [out.grad_fn]
    while waiting:
        node = waiting.pop()
        found.add(type(node).__name__)
        if type(node).__name__.startswith('Add'):
            waiting += [before for before, _ in node.next_functions if before is not None]
    return found


def hook(*given):
    return None


def after_norm(module, x, norm=None):
    return layers.after_norm(module, norm or nn.LayerNorm(x.shape[-1]), x)


@pytest.mark.parametrize(
    'change',
    [
        lambda ffn: ffn.register_forward_hook(hook),
        lambda ffn: ffn.fc1.register_forward_hook(hook),
        lambda ffn: ffn.act.register_forward_pre_hook(hook),
        lambda ffn: ffn.fc2.register_full_backward_hook(hook),
        lambda ffn: ffn.fc2.register_full_backward_pre_hook(hook),
        lambda ffn: setattr(ffn, 'fc2', nn.Linear(20, 12)),
        lambda ffn: setattr(ffn, 'act', nn.ReLU()),
        lambda ffn: setattr(ffn, 'act', nn.GELU('tanh')),
        lambda ffn: ffn.drop.__init__(0.5),
        lambda ffn: nn.utils.parametrizations.weight_norm(ffn.fc1),
        lambda ffn: setattr(ffn.fc1, 'forward', MethodType(nn.Linear.forward, ffn.fc1)),
    ],
)
def test_layers_that_were_changed_are_called_one_by_one(change):
    ffn, x = layer(), torch.randn(3, 15, 12)
    assert 'Chunked' in type(after_norm(ffn, x).grad_fn).__name__
    change(ffn)
    assert 'Chunked' not in type(after_norm(ffn, x).grad_fn).__name__


@pytest.mark.parametrize(
    'change',
    [
        lambda attention: attention.register_forward_hook(hook),
        lambda attention: attention.qkv.register_forward_pre_hook(hook),
        lambda attention: attention.proj.register_full_backward_hook(hook),
        lambda attention: setattr(attention, 'proj', nn.Sequential(attention.proj)),
        lambda attention: nn.utils.parametrizations.weight_norm(attention.qkv),
        lambda attention: setattr(
            attention, 'forward', MethodType(WindowAttention.forward, attention)
        ),
    ],
)
def test_attention_that_was_changed_is_called_layer_by_layer(change):
    attention, x = WindowAttention(12, 3), torch.randn(2, 3, 15, 12)
    assert 'Chunked' in type(after_norm(attention, x).grad_fn).__name__
    change(attention)
    assert 'Chunked' not in type(after_norm(attention, x).grad_fn).__name__


class OtherAttention(WindowAttention):
    def forward(self, x, mask=None):
        return 5 * super().forward(x, mask)


class Wrapped(nn.Module):
    """Hands on whatever is asked, as wrappers for checkpointing and sharding do."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)

    def forward(self, *inputs):
        return 5 * self.module(*inputs)


@pytest.mark.parametrize(
    'make',
    [
        lambda: OtherAttention(12, 3),
        lambda: Wrapped(WindowAttention(12, 3)),
        lambda: nn.Sequential(FeedForward(12, 20, GELU), nn.Linear(12, 12)),
        nn.Identity,
    ],
)
def test_what_took_a_layers_place_is_called(make):
    made, x = block(), torch.randn(2, 3, 15, 12)
    other = make()
    mask = [] if isinstance(other, (nn.Sequential, nn.Identity)) else [None]
    setattr(made, 'attn' if mask else 'ffn', other)
    made(x)
    norm = nn.LayerNorm(12)
    torch.testing.assert_close(layers.after_norm(other, norm, x, *mask), other(norm(x)))


def test_a_class_given_another_forward_is_called(monkeypatch):
    ffn, x = layer(), torch.randn(3, 15, 12)
    with monkeypatch.context() as patch:
        patch.setattr(FeedForward, 'forward', lambda self, x: 5 * x)
        torch.testing.assert_close(after_norm(ffn, x), 5 * F.layer_norm(x, (12,)))
    monkeypatch.setattr(nn.GELU, 'forward', lambda self, x: 5 * x)
    torch.testing.assert_close(after_norm(ffn, x), ffn(F.layer_norm(x, (12,))))


def test_a_compiled_layer_is_called():
    seen = []
    ffn = layer()
    ffn.compile(backend=lambda graph, inputs: seen.append(graph) or graph.forward)
    after_norm(ffn, torch.randn(3, 15, 12))
    assert len(seen) == 1


def test_a_block_compiles_in_training():
    """Into one graph, attention that is computed again included."""
    made, x = block(), torch.randn(2, 3, 15, 12)
    compiled = torch.compile(made, backend='aot_eager', fullgraph=True)
    found = torch.autograd.grad(compiled(x).sin().sum(), list(made.parameters()))
    wanted = torch.autograd.grad(made(x).sin().sum(), list(made.parameters()))
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_layers_as_leaves_of_a_graph():
    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return True

    called = [
        node.target for node in Tracer().trace(block().eval()).nodes if node.op == 'call_module'
    ]
    assert called == ['norm1', 'attn', 'drop_path', 'norm2', 'ffn', 'drop_path']


def agree_with_double(block, x, mask):
    """Output and gradients of a block in chunks against its float64 twin's."""
    twin = copy.deepcopy(block).double()
    out, wanted = block(x, mask), twin(x.double(), mask)
    assert {'_ChunkedAttentionBackward', '_ChunkedFeedForwardBackward'} <= nodes(out)
    out.sin().sum().backward()
    wanted.sin().sum().backward()
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)
    for got, want in zip(block.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got.grad.double(), want.grad, rtol=1e-4, atol=1e-4)


def test_a_block_does_not_attend_to_padding():
    x = torch.randn(2, 3, 3, 12, generator=_generator(3))
    agree_with_double(block(), x, padding())


def test_attention_is_computed_again_elsewhere_too():
    """By checkpoints, where it does not run in chunks; not in evaluation, nor unless it is asked for."""
    x, calls = torch.randn(2, 3, 15, 12), []
    made = block().double()
    made.attn.register_forward_pre_hook(lambda *_: calls.append(1))
    wanted = torch.autograd.grad(made.eval()(x.double()).sin().sum(), list(made.parameters()))
    assert len(calls) == 1
    found = torch.autograd.grad(made.train()(x.double()).sin().sum(), list(made.parameters()))
    assert len(calls) == 3
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want)
    plain = Block(12, 3, 2, 0.0, 0.0, LN, GELU)
    assert not any('Attention' in name for name in nodes(plain(x)))
    assert not any('Attention' in name for name in nodes(block().eval()(x)))


def test_dropout_after_attention():
    attention, x = WindowAttention(12, 3, drop_rate=0.5), torch.randn(2, 3, 15, 12)
    norm = nn.LayerNorm(12)
    outs = []
    for call in (lambda: after_norm(attention, x, norm), lambda: attention(norm(x))):
        torch.manual_seed(4)
        outs.append(call())
    assert (outs[0] == 0).float().mean() > 0.3
    torch.testing.assert_close(*outs)


@pytest.mark.parametrize('other', [torch.Tensor.float, torch.Tensor.double, torch.Tensor.int])
def test_a_mask_kept_in_another_type(other):
    made, x, mask = block(), torch.randn(2, 3, 3, 12), padding()

    def unpack(tensor):
        return other(tensor) if tensor.dtype == torch.bool else tensor

    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        out = made(x, mask)
    found = torch.autograd.grad(out.sin().sum(), list(made.parameters()))
    wanted = torch.autograd.grad(made(x, mask).sin().sum(), list(made.parameters()))
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_heads_kept_in_another_type():
    """By hooks: the plain operations compute them again."""
    inputs = attention_inputs()
    own = {one.data_ptr() for one in inputs}

    def unpack(tensor):
        return tensor if tensor.data_ptr() in own else tensor.bfloat16()

    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        out = chunked_attention()(*inputs)
    found = torch.autograd.grad(out.sin().sum(), inputs)
    wanted = torch.autograd.grad(plain_attention()(*inputs).sin().sum(), inputs)
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


class OtherNorm(nn.LayerNorm):
    pass


def watched_norm():
    norm = nn.LayerNorm(12)
    norm.register_forward_hook(hook)
    return norm


@pytest.mark.parametrize(
    'norm',
    [
        OtherNorm(12),
        nn.LayerNorm(12, bias=False),
        nn.LayerNorm(12, elementwise_affine=False),
        watched_norm(),
    ],
)
def test_a_norm_of_another_kind_is_called(norm):
    x = torch.randn(2, 3, 15, 12)
    for module in (layer(), WindowAttention(12, 3)):
        out = after_norm(module, x, norm)
        assert 'Chunked' not in type(out.grad_fn).__name__
        torch.testing.assert_close(out, module(norm(x)))


def test_hooks_are_called():
    made, seen = block(), []
    for name, module in made.named_modules():
        if name:
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    made(torch.randn(2, 3, 15, 12))
    attention = ['norm1', 'attn.qkv', 'attn.proj', 'attn.proj_drop', 'attn']
    feed_forward = ['norm2', 'ffn.fc1', 'ffn.act', 'ffn.drop', 'ffn.fc2', 'ffn.drop', 'ffn']
    assert seen == [*attention, 'drop_path', *feed_forward, 'drop_path']


def test_dropout_stands_between_in_training_only():
    ffn, x = layer(drop_rate=0.5), torch.randn(3, 15, 12)
    assert not ffn.can_chunk
    assert ffn.eval().can_chunk
    torch.testing.assert_close(after_norm(ffn, x), after_norm(layer(), x))


@pytest.mark.parametrize('with_cp', [False, True, 'attention'])
def test_gradients_of_a_network(with_cp):
    arch = '4,2,2,1|4,1,2,2|3,1,2,1|2,1,2,1|16,16'
    torch.manual_seed(0)
    model = AsViT(arch, 64, with_cp=with_cp)
    images = torch.randn(2, 3, 64, 56, generator=torch.Generator().manual_seed(1))
    twin = copy.deepcopy(model).double()
    model(images)[0].sin().sum().backward()
    twin(images.double())[0].sin().sum().backward()
    for (name, got), want in zip(model.named_parameters(), twin.parameters(), strict=True):
        size = want.grad.abs().max().item()
        torch.testing.assert_close(
            got.grad.double(), want.grad, rtol=0, atol=2e-5 * size + 1e-6, msg=name
        )


@pytest.mark.parametrize(
    ('with_cp', 'expected'), [(False, 'af'), ('attention', 'aaf'), (True, 'aaff')]
)
def test_what_a_network_computes_again(with_cp, expected):
    arch, calls = '4,2,2,1|4,1,2,2|3,1,2,1|2,1,2,1|16,16', []
    model = AsViT(arch, 64, with_cp=with_cp)
    block = model.stages[1].blocks[0]
    block.attn.register_forward_pre_hook(lambda *_: calls.append('a'))
    block.ffn.register_forward_pre_hook(lambda *_: calls.append('f'))
    model(torch.randn(1, 3, 64, 64))[0].sin().sum().backward()
    assert ''.join(sorted(calls)) == expected
