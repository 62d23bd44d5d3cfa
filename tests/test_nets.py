"Networks on disk: the same weights are the same file, eight bits cost half a step, and whoever loads does not notice"
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from facestudy.core import InputError, load_tensors, save_tensors, sha256
from facestudy.method.superres import SuperResolution
from facestudy.nets import SHORT, STEP, from_eight_bits, in_eight_bits, load_net, restored, save_net, slimmed

WRITE = """
import sys, torch
from facestudy.method.superres import SuperResolution
from facestudy.nets import save_net
torch.manual_seed(0)
save_net(sys.argv[1], SuperResolution(8), 'superres', slim=True, steps=5, log=[{'step': 0, 'psnr': 20.}])
"""

def test_two_processes_write_the_same_bytes(tmp_path):
    for name in 'ab':
        env = os.environ | {'PYTHONHASHSEED': 'random'}
        subprocess.run([sys.executable, '-c', WRITE, str(tmp_path/name)], check=True, env=env)
    assert (tmp_path/'a').read_bytes() == (tmp_path/'b').read_bytes()

def test_the_order_of_tensors_does_not_matter(tmp_path):
    tensors = {'b': torch.ones(2), 'a': torch.zeros(3, 2).half(), 'ü': torch.tensor(7)}
    digests = set()
    for i in range(20):                                   # the library's order would be the other in half of them
        save_tensors(tmp_path/'w', dict(sorted(tensors.items(), reverse=i % 2)), {'note': 'Ünïcode 🙂'})
        digests.add(sha256(tmp_path/'w'))
    back,meta = load_tensors(tmp_path/'w')
    assert len(digests) == 1 and meta == {'note': 'Ünïcode 🙂'}
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k,v in tensors.items())

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32-1), st.sampled_from([(1, 5), (3, 7), (4, 2, 3, 3), (8, 1, 3, 3), (2, 3, 2, 2, 2)]),
       st.floats(-30, 30))
def test_at_most_half_a_step_per_channel(seed, shape, size):
    rng = np.random.default_rng(seed)
    channels = 10.**(size+rng.uniform(-4, 4, shape[0]))
    weight = torch.from_numpy(rng.standard_normal(shape)*channels.reshape(-1, *[1]*(len(shape)-1))).float()
    whole,step = in_eight_bits(weight)
    off = (from_eight_bits(whole, step)-weight).abs().flatten(1).amax(1)
    assert whole.dtype == torch.int8 and whole.shape == weight.shape and step.shape == shape[:1]
    assert (off <= .5*step*(1+1e-4)).all()                # 1e-4: single precision rounds the quotient near a half
    assert whole.abs().amax() == 127

def test_twice_is_once():
    "Weights that were released, loaded and are released again do not move"
    first = in_eight_bits(torch.randn(6, 4, 3, 3))
    again = in_eight_bits(from_eight_bits(*first))
    assert torch.equal(again[0], first[0]) and torch.allclose(again[1], first[1], rtol=1e-6, atol=0)

@pytest.mark.parametrize('channel', [torch.zeros(9), torch.full((9,), 1e-44), torch.full((9,), 3e38)],
                         ids=['zeros', 'as small as can be', 'as large as can be'])
def test_odd_channels_are_numbers_and_leave_the_others_alone(channel):
    weight = torch.stack([channel, torch.linspace(-1, 1, 9)])
    back = from_eight_bits(*in_eight_bits(weight))
    assert back.isfinite().all() and (back[1]-weight[1]).abs().max() <= .501/127
    assert torch.allclose(back[0], channel, rtol=.01, atol=2e-44)

class Odd(nn.Module):
    "One of each kind of weight that a network may hold"
    def __init__(self):
        super().__init__()
        self.kernel = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
        self.normed = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 4))
        self.up = nn.ConvTranspose2d(2, 5, 4)
        self.gain,self.lone = nn.Parameter(torch.randn(1, 1, 1, 1)),nn.Parameter(torch.tensor(.3))
        self.short,self.doubled = nn.Linear(SHORT, 2, bias=False),nn.Linear(8, 2, dtype=torch.float64)
        self.register_buffer('counts', torch.arange(40).view(4, 10))
        self.register_buffer('map', torch.linspace(-900, 0, 40).view(4, 10))
        self.discriminator = nn.Linear(9, 9)

def test_every_kind_of_weight():
    net = Odd().eval()
    slim,own = slimmed(net),net.state_dict()
    back = restored(slim)
    assert back.keys() == {k for k in own if not k.startswith('discriminator')}
    eight = {'kernel.weight', 'normed.parametrizations.weight.original', 'up.weight', 'doubled.weight'}
    assert {k for k,v in slim.items() if v.dtype == torch.int8} == eight
    assert {k for k,v in slim.items() if v.dtype == torch.float16} == {'gain', 'short.weight', 'map'}
    for k in back.keys()-eight-{'gain', 'short.weight', 'map'}: assert torch.equal(back[k], own[k]), k
    for k in eight: assert (back[k]-own[k]).abs().amax() <= .51*slim[k+STEP].max()
    before = net.normed(torch.eye(8))
    net.load_state_dict(back, strict=False)
    assert (net.normed(torch.eye(8))-before).abs().max() < .01

def test_a_network_from_eight_bits(tmp_path):
    "It has the weights that it was written with, up to half a step, in single precision; and draws as before"
    torch.manual_seed(0)
    net,x = SuperResolution(8).eval(),torch.rand(1, 3, 16, 16)
    for p in net.parameters(): nn.init.normal_(p, 0, .05)
    save_net(tmp_path/'full', net, 'superres')
    save_net(tmp_path/'slim', net, 'superres', slim=True)
    full,slim = (load_net(tmp_path/f) for f in ('full', 'slim'))
    assert {v.dtype for v in slim.state_dict().values()} == {v.dtype for v in full.state_dict().values()}
    assert slim.state_dict().keys() == full.state_dict().keys()
    assert 0 < (slim(x)-full(x)).abs().max() < .02
    stored = load_tensors(tmp_path/'slim')[0]
    assert sum(v.nbytes for v in stored.values()) < .4*sum(v.nbytes for v in full.state_dict().values())

@pytest.mark.parametrize('steps', [torch.ones(10**6), torch.ones(1), torch.ones(3, 1), torch.tensor(1.),
                                   torch.full((3,), torch.nan), torch.full((3,), 3e38)],
                         ids=['many', 'one', 'matrix', 'number', 'no numbers', 'too large'])
def test_steps_that_do_not_fit(tmp_path, steps):
    "Neither memory for a million channels is asked for, nor are weights used that are no numbers"
    net = SuperResolution(8)
    save_net(tmp_path/'w', net, 'superres', slim=True)
    tensors,meta = load_tensors(tmp_path/'w')
    name = next(k.removesuffix(STEP) for k in tensors if k.endswith(STEP))
    tensors[name+STEP] = steps if steps.shape != (3,) else steps[:1].expand(len(tensors[name])).clone()
    tensors[name] = torch.full_like(tensors[name], 127)
    save_tensors(tmp_path/'w', tensors, meta)
    with pytest.raises(InputError, match='w: (the steps of its weight .* do not fit|its weights are no finite numbers)'):
        load_net(tmp_path/'w')

def test_numbers_that_are_none_are_not_written(tmp_path):
    net = SuperResolution(8)
    next(net.parameters()).data.view(-1)[0] = torch.nan
    with pytest.raises(InputError, match='no longer finite numbers'):
        save_net(tmp_path/'w', net, 'superres', slim=True)
    assert not (tmp_path/'w').exists()
