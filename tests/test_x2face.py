"X2Face only looks colours up, and its driving frame passes through 128 numbers"
import numpy as np
import pytest
import torch
from torch import nn
from facestudy.core import InputError, seed_all, to_numpy
from facestudy.data.pairs import Pairs
from facestudy.nets import load_net, save_net
from facestudy.systems.x2face import UNet, X2Face, blend, look

TINY = dict(size=32, embedding=(8, 32), driving=(8, 32))


def shaken(**kw):
    "An untrained system whose last layers are random, so that it does move pixels"
    seed_all(0)
    system = X2Face(**TINY | kw)
    for net in (system.embedder, system.driver): nn.init.normal_(net.up[-1][-1].weight, std=.2)
    return system.eval()


def pairs(n=4):
    x = torch.rand(2*n, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return Pairs(x[:n], x[n:], *(torch.full((n, 4), torch.nan),)*2)


def clip(system, source, driving, **kw): return np.stack(list(system.animate(source, driving, **kw)))


def test_untrained_copies_the_source():
    x = torch.rand(2, 3, 32, 32)
    assert np.abs(clip(X2Face(**TINY).eval(), x[0], [x[1]])[0].astype(int)-to_numpy(x[0])).max() <= 1


def test_every_colour_is_the_sources():
    "A source of one colour stays that colour; of two colours, everything lies on the line between them"
    system,driving = shaken(), list(torch.rand(3, 3, 32, 32))
    colour = torch.tensor([.2, .6, .8]).view(3, 1, 1)
    out = clip(system, colour.expand(3, 32, 32), driving)
    assert np.abs(out.astype(int)-to_numpy(colour)).max() <= 1
    share = (torch.rand(1, 32, 32) < .5).float()
    out = clip(system, share*colour, driving)/255
    along = out[..., 2:]/.8
    assert along.min() < .1 and along.max() > .9 and np.abs(out-along*np.array([.2, .6, .8])).max() < .01


def test_it_does_move_pixels():
    x = torch.rand(2, 3, 32, 32)
    assert np.abs(clip(shaken(), x[0], [x[1]])[0].astype(int)-to_numpy(x[0])).max() > 20


def test_the_driving_frame_acts_through_the_code_alone():
    system,x = shaken(), torch.rand(2, 3, 32, 32)
    code = system.code(x[1:])
    assert code.shape == (1, 128)
    with torch.no_grad(): out = system.render(system.embed(x[:1, None]), code)
    assert np.abs(to_numpy(out[0]).astype(int)-clip(system, x[0], [x[1]])[0]).max() <= 1


def test_offsets_reach_no_further_than_tanh_of_one():
    "However large the last layer is"
    system = shaken()
    system.driver.up[-1][-1].weight.data.mul_(1e4)
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    shift = (system.render(ramp, torch.randn(1, 128)) - ramp).abs().max()
    assert .3 < shift < .77/2*32/31                                         # the ramp rises by 1 between 32 centres


def test_gradients_reach_both_networks_and_everything_but_the_trust():
    system = shaken().train()
    sum(system.losses('generator', pairs()).values()).backward()
    missing = [n for n,p in system.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    last = system.embedder.up[-1][-1].weight.grad.abs().sum((1, 2, 3))
    assert (last[:2] > 0).all() and last[2] == 0 # with one photo its trust cancels
    for part in (system.embedder.down[0][0], system.driver.down[0][0], system.driver.down[-1][1]):
        assert part.weight.grad.abs().sum() > 0


def test_several_photos():
    system,x = shaken(), torch.rand(3, 3, 32, 32)
    assert clip(system, x[:2], list(x)).shape == (3, 32, 32, 3)
    with torch.no_grad():
        a,b,both = (system.embed(y[None]) for y in (x[:1], x[1:2], x[:2]))
    assert (both >= torch.minimum(a, b)-1e-5).all() and (both <= torch.maximum(a, b)+1e-5).all()
    swapped = blend(torch.stack([a, b], 1), torch.tensor([5., -5.]).view(1, 2, 1, 1, 1))
    assert (swapped-a).abs().max() < .02


def test_training_on_several_photos_teaches_trust():
    system,p = shaken(photos=3).train(), pairs()
    assert system.extra == 2
    p.more = torch.rand(4, 2, 3, 32, 32)
    sum(system.losses('generator', p).values()).backward()
    assert system.embedder.up[-1][-1].weight.grad[2].abs().sum() > 0


def test_frames_do_not_depend_on_the_batch():
    system,x = shaken(), torch.rand(6, 3, 32, 32)
    a,b = (clip(system, x[0], list(x), batch=n) for n in (1, 4))
    assert np.abs(a.astype(int)-b).max() <= 1


def test_animate_is_lazy_and_knows_no_relative_motion():
    system,x,asked = shaken(), torch.rand(2, 3, 32, 32), []
    def frames():
        for i in range(100):
            asked.append(i)
            yield x[1]
    first = next(system.animate(x[0], frames(), batch=2))
    assert asked == [0, 1]
    assert np.array_equal(first, next(system.animate(x[0], iter([x[1]]*2), relative=True)))


def test_it_learns_a_shift():
    "A few steps on one pair bring the loss well under that of copying"
    seed_all(0)
    smooth = nn.functional.interpolate(torch.rand(2, 3, 6, 6), (32, 32), mode='bicubic').clamp(0, 1)
    p = Pairs(smooth, smooth.roll(3, -1), *(torch.full((2, 4), torch.nan),)*2)
    system = X2Face(**TINY)
    opt,losses = torch.optim.Adam(system.parameters(), 3e-3), []
    for _ in range(40):
        loss = sum(system.losses('generator', p).values())
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < .7*losses[0]


def test_save_and_load(tmp_path):
    system,x = shaken(perceptual=0.), torch.rand(2, 3, 32, 32)
    save_net(tmp_path/'x.safetensors', system, 'system')
    again = load_net(tmp_path/'x.safetensors', 'system', expect='x2face')
    assert np.array_equal(clip(again, x[0], [x[1]]), clip(system, x[0], [x[1]]))


def test_published_widths():
    system = X2Face()
    widths = [m.out_channels for block in system.embedder.down for m in block if isinstance(m, nn.Conv2d)]
    assert widths == [64, 128, 256, 512, 512, 512, 512, 512]
    assert system.code(torch.rand(2, 3, 256, 256)).shape == (2, 128)


def test_sizes():
    with pytest.raises(InputError, match='power of two'): X2Face(48)
    assert look(torch.zeros(1, 2, 4, 4)).shape == (1, 4, 4, 2)
    assert UNet(8, 3, 4, 8)(torch.rand(2, 3, 8, 8)).shape == (2, 3, 8, 8)
