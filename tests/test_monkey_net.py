"Monkey-Net: blobs, translation, warped skips, and a game that keypoints stay out of"
import pytest
import torch
from facestudy.core import seed_all
from facestudy.grids import make_grid
from facestudy.systems.monkey_net import (MonkeyNet, ShiftedMotion, WarpedUNet, difference_maps, floor_covariance,
                                          moments, shaped_gaussians)
from facestudy.data.pairs import Pairs
from facestudy.training.recipe import Recipe
from facestudy.training.trainer import Trainer
from facestudy.nets import load_net, save_net
from test_training import toy_store

TINY = dict(size=32, detector=[8, 3, 32], detector_scale=1., motion=[8, 3, 32], motion_scale=.5,
            generator=[8, 3, 32, 1], discriminator=8, matching=[10, 10, 10, 1])


def tiny(**more):
    torch.set_num_threads(1)
    seed_all(0)
    return MonkeyNet(**TINY | more)


def some_pairs(n=2):
    nobody = torch.full((n, 4), torch.nan)
    return Pairs(torch.rand(n, 3, 32, 32), torch.rand(n, 3, 32, 32), nobody, nobody)


def some_blobs(n=1):
    half = .2*torch.randn(n, 10, 2, 2)
    return {'points': torch.rand(n, 10, 2)-.5, 'covariances': half @ half.mT + .01*torch.eye(2)}


def test_moments_against_the_definition():
    seed_all(0)
    heat = torch.rand(2, 3, 7, 9).flatten(2).softmax(-1).view(2, 3, 7, 9)
    kp,z = moments(heat),make_grid(7, 9)
    mean = (heat[..., None]*z).sum((2, 3))
    d = z - mean[:, :, None, None]
    cov = (heat[..., None, None]*d[..., None]*d[..., None, :]).sum((2, 3))
    assert torch.allclose(kp['points'], mean, atol=1e-5) and torch.allclose(kp['covariances'], cov, atol=1e-5)


def test_moments_keep_their_precision_under_autocast():
    heat = torch.rand(2, 3, 16, 16).flatten(2).softmax(-1).view(2, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16): short = moments(heat)
    for k,v in moments(heat).items(): assert short[k].dtype == torch.float32 and torch.equal(v, short[k])


def test_floor_has_finite_gradients_where_eigenvalues_meet():
    m = torch.stack([torch.eye(2), torch.zeros(2, 2), 1e-5*torch.eye(2)]).requires_grad_()
    out = floor_covariance(m)
    out.sum().backward()
    assert m.grad.isfinite().all() and torch.allclose(out[1:], .001*torch.eye(2).expand(2, 2, 2), atol=1e-6)


def test_gaussians_against_a_density():
    seed_all(1)
    kp = some_blobs()
    made = shaped_gaussians(kp, 12, 12)[0]
    for k in range(10):
        density = torch.distributions.MultivariateNormal(kp['points'][0, k], kp['covariances'][0, k])
        log = density.log_prob(make_grid(12, 12)) - density.log_prob(kp['points'][0, k])
        assert torch.allclose(made[k], log.exp(), atol=1e-3)


def test_covariances_reach_the_maps_but_propose_no_motion():
    "Zeroth order: with equal places and other shapes, the untrained flow is the identity"
    seed_all(0)
    a,b = some_blobs(),some_blobs()
    b['points'] = a['points']
    assert difference_maps(a, b, 16, 16).abs().max() > .05
    flow,residual,share,_ = ShiftedMotion(expansion=8, blocks=3, scale=1.)(torch.rand(1, 3, 32, 32), a, b)
    assert (flow-make_grid(32, 32)).abs().max() < 1e-5 and residual.abs().max() == 0
    assert share[:, 0].min() > share[:, 1:].max()                           # the background's bias


def test_no_pixel_leads_around_the_warp():
    seed_all(0)
    net,none = WarpedUNet(expansion=8, blocks=2, cap=32, refine=1).eval(),torch.zeros(1, 10, 32, 32)
    a = torch.rand(1, 3, 32, 32)
    b = a.clone()
    b[..., 16:, 16:] = 0
    corner,still = torch.full((1, 32, 32, 2), -1.),make_grid(32, 32)[None]
    assert torch.equal(net(a, corner, none), net(b, corner, none))
    assert not torch.equal(net(a, still, none), net(b, still, none))


def test_each_player_moves_its_own():
    system,pairs = tiny(),some_pairs()
    terms = system.losses('generator', pairs)
    assert set(terms) == {'adversarial', 'matching'}
    sum(terms.values()).backward()
    mine = [p for m in system.players()['generator'] for p in m.parameters()]
    assert system.detector.maps.weight.grad.abs().sum() > 0 and system.motion.head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in system.discriminator.parameters())
    for p in mine: p.grad = None
    system.losses('discriminator', pairs)['discriminator'].backward()
    assert all(p.grad is None for p in mine) and all(p.grad is not None for p in system.discriminator.parameters())


def test_matching_counts_pixels_first():
    "With no weight on the discriminator's features, what is left is ten times the L1 distance of pixels"
    system,pairs = tiny(matching=[10, 0, 0, 0]),some_pairs()
    terms = system.losses('generator', pairs)
    output,target,_ = system._made
    assert torch.isclose(terms['matching'], 10*(output-target).abs().mean())
    assert 'pixels' in tiny(pixels=1.).losses('generator', pairs)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_learns(precision):
    recipe = Recipe(steps=24, batch=2, lr=3e-3, augment=0., precision=precision)
    trainer = Trainer(tiny(), toy_store(), recipe, device='cpu')
    trainer.run(measure_every=8)
    first,last = trainer.log[0],trainer.log[-1]
    assert last['matching'] < .8*first['matching'] and last['psnr'] > first['psnr']+1


@pytest.mark.parametrize('relative', [False, True])
def test_frames_do_not_depend_on_the_batch(relative):
    system = tiny().eval()
    seed_all(2)
    source,driving = torch.rand(3, 32, 32),[torch.rand(3, 32, 32) for _ in range(5)]
    one,all5 = (list(system.animate(source, iter(driving), relative=relative, batch=n)) for n in (1, 5))
    assert len(one) == len(all5) == 5 and one[0].shape == (32, 32, 3)
    assert max(abs(a.astype(int)-b).max() for a,b in zip(one, all5)) <= 1


def test_relative_motion_keeps_driving_covariances(monkeypatch):
    system,seen = tiny().eval(),[]
    monkeypatch.setattr(system, 'render', lambda s, a, b, canvas: seen.append((a, b)) or s)
    seed_all(3)
    source,driving = torch.rand(3, 32, 32),torch.rand(3, 32, 32)
    list(system.animate(source, [driving], relative=True))
    (mine,theirs),there = seen[0],system.keypoints(driving[None])
    assert torch.allclose(theirs['points'], mine['points'], atol=1e-6)      # the first frame moves nothing
    assert torch.equal(theirs['covariances'], there['covariances'])


def test_saved_and_loaded(tmp_path):
    system,source = tiny().eval(),torch.rand(3, 32, 32)
    save_net(tmp_path/'m.safetensors', system, 'system')
    again = load_net(tmp_path/'m.safetensors', 'system', expect='monkey_net')
    driving = [source.flip(-1)]*3
    for a,b in zip(system.animate(source, driving), again.animate(source, driving)): assert (a == b).all()


def test_animates_without_its_discriminator():
    system,source = tiny().eval(),torch.rand(3, 32, 32)
    before = list(system.animate(source, [source.flip(-1)]))
    del system.discriminator
    assert (before[0] == list(system.animate(source, [source.flip(-1)]))[0]).all()


def test_released_without_its_discriminator(tmp_path):
    "Eight bits move colours by a few levels at most, keypoints hardly"
    system,x = tiny().eval(),torch.rand(1, 3, 32, 32)
    save_net(tmp_path/'m.safetensors', system, 'system', slim=True)
    again = load_net(tmp_path/'m.safetensors', 'system')
    assert (again.keypoints(x)['points']-system.keypoints(x)['points']).abs().max() < .02
    a,b = (next(s.animate(x[0], [x[0].flip(-1)])).astype(int) for s in (system, again))
    assert abs(a-b).max() <= 8


def test_published_sizes():
    "Millions of weights at 256 px"
    with torch.device('meta'): system = MonkeyNet()
    sizes = {k: round(sum(p.numel() for p in m.parameters())/1e6, 1) for k,m in system.named_children()}
    assert sizes == {'detector': 14.1, 'motion': 14.2, 'generator': 66.5, 'discriminator': 2.8}
