"SWATS: facestudy.method.swats"
import copy
import json
import math

import pytest
import torch
from torch import nn

from facestudy.core import InputError, load_tensors, save_tensors
from facestudy.method.swats import SWATS, inner_products, sgd_rate


def weights(dtype=torch.float64, channels_last=False):
    g = torch.Generator().manual_seed(0)
    ws = [torch.randn(s, generator=g, dtype=dtype) for s in [(6, 4, 3, 3), (6,), (5, 7)]]
    if channels_last: ws[0] = ws[0].contiguous(memory_format=torch.channels_last)
    return [nn.Parameter(w) for w in ws]

def give(ws, k, pull=1.):
    "A gradient of a noisy quadratic that depends on the weights and on k alone"
    g = torch.Generator().manual_seed(k)
    for w in ws: w.grad = pull*w.detach() + torch.randn(w.shape, generator=g, dtype=w.dtype)

def step(opt, ws, k):
    "One step of `opt` on the gradient number `k`"
    give(ws, k)
    opt.step()

def far(a, b): return max((x-y).detach().abs().max().item() for x,y in zip(a, b))

@pytest.mark.parametrize('eps', [1e-9, 1e-2])
@pytest.mark.parametrize('decay', [0., .1])
@pytest.mark.parametrize('channels_last', [False, True])
def test_adam_phase_is_adam(eps, decay, channels_last):
    ours,theirs = weights(channels_last=channels_last),weights()
    opt = SWATS(ours, lr=.01, eps=eps, weight_decay=decay)
    adam = torch.optim.Adam(theirs, lr=.01, weight_decay=decay)
    for k in range(1, 201):
        for o in (opt, adam): o.param_groups[0]['lr'] = .01*(1 + math.cos(k/40))
        adam.param_groups[0]['eps'] = eps/math.sqrt(1-.999**k)      # the article's epsilon lies outside the correction
        step(opt, ours, k)
        step(adam, theirs, k)
    assert opt.phase == 'adam' and far(ours, theirs) < 1e-10

def by_the_book(ws, steps, lr, eps_switch, switch_at=None, b1=.9, b2=.999, eps=1e-9):
    "The algorithm line by line on one long float64 vector"
    w = torch.cat([o.detach().double().flatten() for o in ws])
    m,a,v = torch.zeros_like(w),torch.zeros_like(w),torch.zeros_like(w)
    lam,phase,Lam,at = 0.,'adam',None,None
    for k in range(1, steps+1):
        parts = [nn.Parameter(t.view(o.shape).clone()) for t,o in zip(w.split([o.numel() for o in ws]), ws)]
        give(parts, k)
        g = torch.cat([t.grad.flatten() for t in parts])
        if phase == 'sgd':
            v = b1*v + g
            w = w - (1-b1)*Lam*v
            continue
        m = b1*m + (1-b1)*g
        a = b2*a + (1-b2)*g*g
        p = -lr*math.sqrt(1-b2**k)/(1-b1**k)*m/(a.sqrt() + eps)
        w = w + p
        if p @ g == 0: continue
        gamma = float(p @ p/-(p @ g))
        lam = b2*lam + (1-b2)*gamma
        Lam = lam/(1-b2**k)
        settled = abs(Lam-gamma) < eps_switch or (switch_at and k >= switch_at)
        if k > 1 and Lam > 0 and settled: phase,at = 'sgd',k
    return w,phase,at,Lam

@pytest.mark.parametrize('kw', [{'eps_switch': 1e-9}, {'eps_switch': 1e-3}, {'eps_switch': 1e-9, 'switch_at': 30}])
def test_equals_the_algorithm(kw):
    ws = weights()
    opt = SWATS(ws, lr=.01, **kw)
    w,phase,at,Lam = by_the_book(ws, 120, .01, **kw)
    for k in range(1, 121): step(opt, ws, k)
    assert (opt.phase, opt.switch_step) == (phase, at)
    assert far([w], [torch.cat([o.flatten() for o in ws])]) < 1e-10
    if at: assert opt.sgd_lr == pytest.approx(Lam, rel=1e-10)

def scalar(grad, steps, **kw):
    "An optimiser after `steps` steps on one weight; `grad(w, k)` gives the gradient"
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    opt = SWATS([w], **kw)
    for k in range(1, steps+1):
        w.grad = torch.full((1,), float(grad(w.item(), k)), dtype=torch.float64)
        opt.step()
    return opt

def test_switches_on_a_quadratic():
    opt = scalar(lambda w,k: 2*(w-1e5), 10)
    assert opt.switch_step == 2 and opt.sgd_lr == pytest.approx(1e-3/2e5, rel=1e-6)

@pytest.mark.parametrize('grad', [
    lambda w,k: .9**k, lambda w,k: 0., lambda w,k: w - 1 + .3*math.sin(7*k), lambda w,k: math.nan])
def test_does_not_switch(grad): assert scalar(grad, 300).phase == 'adam'

def test_never_at_the_first_step(): assert scalar(lambda w,k: 1., 1, switch_at=1).phase == 'adam'

def test_rate_must_be_positive():
    def uphill(w, k): return 1. if k == 1 else -.01
    opt = scalar(uphill, 4, switch_at=2)
    assert opt.phase == 'adam' and opt.gamma < 0
    opt = scalar(uphill, 400, switch_at=2)
    assert opt.phase == 'sgd' and opt.sgd_lr > 0 and opt.switch_step > 4

@pytest.mark.parametrize('pp,pg,rate', [
    (4., -2., 2.), (4., 2., -2.), (4., 0., None), (4., math.nan, None), (1e300, -1e-300, None)])
def test_sgd_rate(pp, pg, rate): assert sgd_rate(pp, pg) == rate

def test_schedule_multiplies_the_sgd_rate():
    a,b = weights(),weights()
    x,y = SWATS(a, lr=.01, switch_at=5),SWATS(b, lr=.01, switch_at=5)
    for k in range(1, 6):
        step(x, a, k)
        step(y, b, k)
    start = [w.detach().clone() for w in a]
    y.param_groups[0]['lr'] = .0025
    step(x, a, 6)
    step(y, b, 6)
    for s,u,v in zip(start, a, b): assert torch.allclose((u-s)/4, v-s, atol=1e-15, rtol=1e-9)

def test_torch_scheduler_drives_it():
    ws = weights()
    opt = SWATS(ws, lr=.01, switch_at=3)
    schedule = torch.optim.lr_scheduler.StepLR(opt, 5, .1)
    for k in range(1, 8):
        step(opt, ws, k)
        schedule.step()
    before = [w.detach().clone() for w in ws]
    velocity = [opt.state[w]['v'].clone() for w in ws]
    step(opt, ws, 8)
    for w,b,v in zip(ws, before, velocity):
        assert torch.allclose(w.detach(), b - .1*opt.sgd_lr*.1*(.9*v + w.grad), atol=1e-15, rtol=1e-9)

def through_a_file(opt, path, groups):
    "A new optimiser of `groups` that goes on where `opt` is, by the file format of the checkpoints"
    state = opt.state_dict()
    tensors = {f'{i}.{n}': t for i,s in state['state'].items() for n,t in s.items()}
    save_tensors(path, tensors, {'groups': state['param_groups']})
    tensors,meta = load_tensors(path)
    state = {'state': {}, 'param_groups': meta['groups']}
    for name,t in tensors.items():
        i,n = name.split('.')
        state['state'].setdefault(int(i), {})[n] = t
    again = SWATS(groups)
    again.load_state_dict(state)
    return again

@pytest.mark.parametrize('cut', [1, 2, 14, 15, 16, 30])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_resume_is_bit_exact(cut, dtype, tmp_path):
    a,b = weights(dtype, True),weights(dtype, True)
    def groups(ws): return [{'params': ws[:1], 'lr': .02}, {'params': ws[1:]}]
    x,y = SWATS(groups(a), lr=.01, switch_at=15),SWATS(groups(b), lr=.01, switch_at=15)
    for k in range(1, 41):
        step(x, a, k)
        step(y, b, k)
        if k == cut: y = through_a_file(y, tmp_path/'o.safetensors', groups(b))
    assert all(torch.equal(u, v) for u,v in zip(a, b))
    assert (x.phase, x.switch_step, x.sgd_lr, x.gap, x.gamma) == (y.phase, y.switch_step, y.sgd_lr, y.gap, y.gamma)
    assert x.switch_step == 15
    assert json.dumps(x.state_dict()['param_groups']) == json.dumps(y.state_dict()['param_groups'])

def test_parameters_without_gradient_are_left_alone():
    ws = weights()
    kept = ws[1].detach().clone()
    opt = SWATS(ws, switch_at=4)
    for k in range(1, 9):
        give(ws, k)
        ws[1].grad = None
        opt.step()
    assert opt.phase == 'sgd' and torch.equal(ws[1], kept)
    for w in ws: w.grad = None
    opt.step()
    fresh = SWATS(ws)
    fresh.step()
    assert fresh.gamma is None

def test_sums_are_double():
    "In single precision the small numbers would vanish beside the large one"
    p = torch.tensor([1e3] + [2.**-7]*64)
    assert inner_products(p, p).tolist() == [1e6 + 64*2.**-14]*2 and inner_products(p, p).dtype == torch.float64
    assert (p*p).sum().item() == 1e6

def test_closure():
    w = nn.Parameter(torch.ones(3))
    opt = SWATS([w], lr=.1)
    def loss():
        opt.zero_grad()
        value = (w*w).sum()
        value.backward()
        return value
    assert opt.step(loss).item() == 3. and opt.step(loss).item() < 3.

def test_copy_keeps_the_phase():
    ws = weights()
    opt = SWATS(ws, switch_at=3)
    for k in range(1, 6): step(opt, ws, k)
    assert copy.deepcopy(opt).phase == 'sgd' and 'phase=sgd' in repr(opt)

@pytest.mark.parametrize('kw', [
    {'lr': -1.}, {'betas': (.9, 1.)}, {'eps': -1.}, {'eps_switch': -1.}, {'weight_decay': -1.}])
def test_bad_settings(kw):
    with pytest.raises(InputError, match='correct the recipe'): SWATS(weights(), **kw)
