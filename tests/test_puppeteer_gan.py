"PuppeteerGAN-style: two stages, geometry first, and the driving frame speaks through its landmarks alone"
import numpy as np
import pytest
import torch

from facestudy.core import InputError, seed_all
from facestudy.grids import from_pixels, make_grid
from facestudy.detectors.landmarker import Landmarker
from facestudy.data.pairs import Pairs
from facestudy.detectors.parser import PARTS, Parser, one_hot
from facestudy.systems.few_shot import hinge_loss
from facestudy.systems.first_order import feature_distances
from facestudy.systems.puppeteer_gan import GROUPS, Flow, Painter, PuppeteerGAN, Sketcher, landmark_maps, layout_loss
from facestudy.nets import load_net, save_net

TINY = dict(size=32, sketcher=(8, 12), flow=(8, 12), painter=(8, 8, 12), blocks=1, hidden=8, fold=2,
            discriminator=(8, 2), perceptual=0.)
COND = len(PARTS)+len(GROUPS)

@pytest.fixture
def system():
    seed_all(0)
    s = PuppeteerGAN(**TINY)
    for head in (s.sketcher.net.head, s.flow.net.head, s.painter.head):
        torch.nn.init.normal_(head.weight, std=.05) # as if trained: no zeros
    return s

def batch(n=3):
    source,driving = torch.rand(n, 3, 32, 32),torch.rand(n, 3, 32, 32)
    return Pairs(source, driving, torch.full((n, 4), .4), torch.full((n, 4), torch.nan))

def moves(system, pairs):
    "Players' losses in order; each is handed its gradients"
    for player,modules in system.players().items():
        system.zero_grad(set_to_none=True)
        terms = system.losses(player, pairs)
        sum(terms.values()).backward()
        yield player,terms,{n for n,p in system.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_landmark_maps_by_hand():
    p = torch.zeros(1, 68, 2)
    p[:, :17] = from_pixels(torch.tensor([32., 0]), 33)
    m = landmark_maps(p, 33, 33)
    assert m.shape == (1, len(GROUPS), 33, 33)
    assert m[0, 0].argmax() == 32 and torch.isclose(m[0, 0].max(), torch.tensor(1.))
    assert all(m[0, i].argmax() == 16*33+16 for i in range(1, len(GROUPS)))
    assert [i for g in GROUPS for i in g] == list(range(68))

def test_untrained_stages_keep_the_source():
    lay,maps,x = one_hot(torch.randint(6, (2, 32, 32))),torch.rand(2, len(GROUPS), 32, 32),torch.rand(2, 3, 32, 32)
    assert torch.equal(Sketcher((8, 12))(lay, maps, maps.flip(0)).argmax(1), lay.argmax(1))
    cond = torch.cat([lay, maps], 1)
    flow = Flow((8, 12))(cond, cond.flip(0))
    assert torch.allclose(flow, make_grid(16, 16).expand_as(flow))
    assert (Painter((8, 8, 12))(x, flow, cond)-x).abs().max() < .011

def test_losses_by_hand():
    lay = one_hot(torch.randint(6, (2, 8, 8)))
    assert layout_loss(30*lay, lay) < 1e-4 and torch.isclose(layout_loss(0*lay, lay), torch.tensor(6.).log())
    assert hinge_loss(torch.ones(2), -torch.ones(2)) == 0 and hinge_loss(torch.tensor([0.]), torch.tensor([1.])) == 3
    assert feature_distances([torch.ones(2)], [torch.zeros(2)]) == [1]

def test_each_player_moves_its_own(system):
    system.train()
    own = {'sketcher': ('sketcher',), 'colourer': ('flow', 'painter'), 'discriminator': ('discriminator',)}
    wanted = {'sketcher': {'layout'}, 'colourer': {'pixels', 'adversarial', 'matching'},
              'discriminator': {'discriminator'}}
    for player,terms,got in moves(system, batch()):
        assert set(terms) == wanted[player] and all(t.isfinite() and t.ndim == 0 for t in terms.values())
        assert {n.split('.')[0] for n in got} == set(own[player])

def test_every_weight_of_both_stages_learns(system):
    system.train()
    own = {'sketcher': ('sketcher',), 'colourer': ('flow', 'painter')}
    for player,_,got in moves(system, batch()):
        parts = [getattr(system, m).named_parameters(m) for m in own.get(player, ())]
        silent = {name for part in parts for name,_ in part}-got
        assert not silent, silent

def test_no_discriminator_when_it_has_no_weight():
    s = PuppeteerGAN(**TINY|dict(adversarial=0.)).train()
    assert list(s.players()) == ['sketcher', 'colourer'] and not hasattr(s, 'discriminator')
    assert set(s.losses('sketcher', p := batch())) == {'layout'} and set(s.losses('colourer', p)) == {'pixels'}

def test_bfloat16(system):
    with torch.autocast('cpu', torch.bfloat16):
        for _,terms,_ in moves(system.train(), batch()):
            assert all(t.dtype == torch.float32 and t.isfinite() for t in terms.values())

def test_driving_frames_speak_through_landmarks_alone(system):
    "Another picture with the same points changes nothing, other points do, and no driving frame is ever parsed"
    points,asked = torch.rand(1, 68, 2)-.5,[]
    class Puppet(PuppeteerGAN):
        def keypoints(self, image, face=None): return {'points': points.expand(len(image), -1, -1)}
        def layouts(self, image):
            asked.append(image.clone())
            return super().layouts(image)
    puppet = Puppet(**TINY).eval()
    puppet.load_state_dict(system.state_dict())
    source,a,b = torch.rand(3, 3, 32, 32)
    one,two = (next(puppet.animate(source, [d])) for d in (a, b))
    assert (one == two).all() and all(torch.equal(o, source.expand_as(o)) for o in asked)
    mine,other = {'points': points},{'points': points.flip(1)}
    with torch.no_grad(): still,moved = (puppet.render(source[None], mine, p) for p in (mine, other))
    assert not torch.allclose(still, moved, atol=1e-3)

def test_stage_two_paints_into_the_prediction(system):
    "What the painter is given is stage 1's layout, not the driving frame's own"
    system.eval()
    x,kp = torch.rand(2, 3, 32, 32),{'points': torch.rand(2, 68, 2)-.5}
    with torch.no_grad(): output,layout,sketch,flow = system.stages(x, kp, kp)
    assert output.shape == x.shape and flow.shape == (2, 16, 16, 2)
    assert layout.shape == sketch.shape == (2, len(PARTS), 32, 32)
    assert torch.allclose(sketch.sum(1), torch.ones(2, 32, 32), atol=1e-5)
    assert not torch.allclose(sketch, layout, atol=1e-3)
    system.train()
    pairs = batch(2)
    system.losses('sketcher', pairs)
    after = system._drawn[2][:, :len(PARTS)]
    own = system.layouts(torch.cat([pairs.driving, pairs.source]))
    assert not after.requires_grad and not torch.allclose(after, own, atol=1e-3)

def test_animate(system):
    system.eval()
    source,driving,faces = torch.rand(3, 32, 32),torch.rand(5, 3, 32, 32),torch.tensor([[0, 0, .4, .4]]*5)
    a,b = (np.stack(list(system.animate(source, iter(driving), faces[0], iter(faces), batch=n))) for n in (1, 4))
    assert a.shape == (5, 32, 32, 3) and a.dtype == np.uint8 and np.abs(a.astype(int)-b).max() <= 1
    still = np.stack(list(system.animate(source, [driving[0]]*2, faces[0], faces[:2], relative=True)))
    own = next(system.animate(source, [source], faces[0], faces[:1]))
    assert np.abs(still[1].astype(int)-own).max() <= 1 # relative: nothing moved, so the source keeps its pose

def test_aids_stay_frozen(system):
    system.train()
    assert not system.parser.training and not system.landmarker.training
    held = {id(p) for ms in system.players().values() for m in ms for p in m.parameters()}
    aids = [*system.parser.parameters(), *system.landmarker.parameters()]
    assert not any(id(p) in held or p.requires_grad for p in aids)
    other = Parser(16)
    system.take_aid('parser', other)
    assert all(torch.equal(a, b) for a,b in zip(system.parser.state_dict().values(), other.state_dict().values()))
    system.take_aid('landmarker', Landmarker(16))
    with pytest.raises(InputError, match='uses no'): system.take_aid('superres', other)

def test_round_trip(tmp_path, system):
    system.take_aid('parser', Parser(16))
    save_net(tmp_path/'s.safetensors', system, 'system')
    back = load_net(tmp_path/'s.safetensors', 'system', expect='puppeteer_gan')
    source,driving = torch.rand(3, 32, 32),torch.rand(2, 3, 32, 32)
    assert all((p == q).all() for p,q in zip(system.eval().animate(source, driving), back.animate(source, driving)))

def test_the_discriminator_is_not_needed(system):
    source,driving = torch.rand(3, 32, 32),torch.rand(2, 3, 32, 32)
    before = np.stack(list(system.eval().animate(source, driving)))
    del system.discriminator
    assert (np.stack(list(system.animate(source, driving))) == before).all()
