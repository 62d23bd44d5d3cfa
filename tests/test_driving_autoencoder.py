"The reference: the first-order model's generator on the driving frame itself"
import numpy as np
import torch
from facestudy.core import seed_all
from facestudy.systems.driving_autoencoder import DrivingAutoencoder
from facestudy.systems.first_order import FirstOrder
from facestudy.grids import make_grid
from facestudy.data.pairs import Pairs
from facestudy.nets import load_net, save_net

TINY = dict(size=32, generator=(8, 32, 2, 1), perceptual=0., pixels=1.)


def tiny():
    seed_all(0)
    return DrivingAutoencoder(**TINY)


def clip(system, source, driving, **kw): return np.stack(list(system.animate(source, driving, **kw)))


def test_its_painter_is_the_first_order_models():
    "The same network, with nothing moved and nothing hidden, under the same losses"
    system,x = tiny().eval(), torch.rand(2, 3, 32, 32)
    other = FirstOrder(32, detector=(8, 3, 32), detector_scale=1., motion=(8, 3, 32), motion_scale=1.,
                       generator=TINY['generator'], perceptual=0.)
    other.generator.load_state_dict(system.generator.state_dict())
    still,seen = make_grid(8, 8).expand(2, -1, -1, -1),torch.ones(2, 1, 8, 8)
    with torch.no_grad(): theirs = other.eval().generator(x, still, seen)
    assert (system.render(x)-theirs).abs().max() < 1e-4
    assert set(system.config)-{'size'} <= set(other.config)


def test_it_ignores_the_source():
    "In cross-reenactment it returns the driver"
    system,x = tiny().eval(), torch.rand(3, 3, 32, 32)
    a,b = clip(system, x[0], list(x[2:])), clip(system, x[1], list(x[2:]), relative=True)
    assert np.array_equal(a, b) and not np.array_equal(a, clip(system, x[0], [x[1]]))


def test_gradients_reach_the_whole_painter():
    system,x = tiny(), torch.rand(4, 3, 32, 32)
    terms = system.losses('generator', Pairs(x[:2], x[2:], *(torch.full((2, 4), torch.nan),)*2))
    assert set(terms) == {'pixels'}
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in system.parameters())
    assert system.generator.first[0].weight.grad.abs().sum() > 0 and list(system.players()) == ['generator']


def test_both_frames_of_a_pair_are_targets():
    "The loss changes with either frame"
    system,x = tiny().eval(), torch.rand(3, 1, 3, 32, 32)
    nobody = torch.full((1, 4), torch.nan)
    def loss(a, b): return system.losses('generator', Pairs(x[a], x[b], nobody, nobody))['pixels'].item()
    assert abs(loss(0, 1)-loss(1, 0)) < 1e-5 and loss(0, 1) != loss(0, 2) != loss(1, 2)


def test_it_learns_to_repaint():
    system = tiny()
    x = torch.nn.functional.interpolate(torch.rand(4, 3, 6, 6), (32, 32), mode='bicubic').clamp(0, 1)
    opt,losses = torch.optim.Adam(system.parameters(), 5e-3), []
    for _ in range(40):
        loss = sum(system.losses('generator', Pairs(x[:2], x[2:], *(torch.full((2, 4), torch.nan),)*2)).values())
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < .5*losses[0]


def test_frames_are_lazy_and_do_not_depend_on_the_batch():
    system,x,asked = tiny().eval(), torch.rand(6, 3, 32, 32), []
    a,b = (clip(system, x[0], list(x), batch=n) for n in (1, 4))
    assert np.abs(a.astype(int)-b).max() <= 1
    next(system.animate(x[0], (asked.append(i) or y for i,y in enumerate(x)), batch=2))
    assert asked == [0, 1]


def test_save_and_load(tmp_path):
    system,x = tiny().eval(), torch.rand(2, 3, 32, 32)
    save_net(tmp_path/'d.safetensors', system, 'system')
    again = load_net(tmp_path/'d.safetensors', 'system', expect='driving_autoencoder')
    assert np.array_equal(clip(again, x[0], [x[1]]), clip(system, x[0], [x[1]]))
