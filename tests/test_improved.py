"The system of ours: looks three times, moves twice, draws at any side"
import pytest
import torch
import torch.nn.functional as F

from facestudy.core import InputError, seed_all
from facestudy.detectors.carrier import Carrier, carried_points
from facestudy.detectors.closer import FLIPPED, UPRIGHT, cut, out_of, square_of
from facestudy.detectors.looker import EYE, MOUTH, Looker
from facestudy.grids import resize_to
from facestudy.improved.losses import WEIGHTS, improved_losses
from facestudy.improved.pairs import FilmedAndRendered, RenderedPairs, crowd_marks, plain_batch
from facestudy.improved.system import Improved
from facestudy.people.crowd import Crowd, rendered_crowd
from facestudy.systems.suggested import Suggested

SMALL = dict(look=64, frame_motion=[8]*4, face_motion=[8]*4, frame_paint=[8]*3, face_paint=[8]*4,
             crowd=[6, 2, 2, 8, 64, 3, 5000])

@pytest.fixture(scope='module')
def crowd(): return rendered_crowd(Crowd(*SMALL['crowd']))

@pytest.fixture(scope='module')
def system():
    seed_all(0)
    return Improved(32, **SMALL).eval()

def average_face(x=0., half=.4): return out_of(UPRIGHT[None], torch.tensor([[[half, 0., x], [0., half, 0.]]]))

def marks(x=0., half=.4):
    "An average face and its irises"
    p = average_face(x, half)
    irises = [p[:, o].mean(1, keepdim=True) for o in (slice(36, 42), slice(42, 48))]
    return torch.cat([p, *irises], 1)

def test_eyes_and_mouth_are_looked_at_and_the_jaw_is_not(system):
    seed_all(1)
    net,x,p = Looker().eval(),torch.rand(1, 3, 64, 64),marks()
    with torch.no_grad(): q = net.features(x, square_of(p), p)
    moved = (q-p).abs().amax(-1)[0] > 0
    assert set(moved.nonzero()[:, 0].tolist()) == {*EYE, *FLIPPED[EYE].tolist(), *MOUTH}

def test_a_face_that_does_not_move_gives_the_photo_back(system):
    "Before anything is learnt, the motion between equal frames is none, and 2 % of the mask are open"
    seed_all(2)
    photo = F.interpolate(torch.rand(1, 3, 8, 8), (64, 64), mode='bicubic').clamp(0, 1)
    kp = {'points': torch.rand(1, 10, 2)-.5, 'marks': marks()}
    with torch.no_grad(): out = system.render(photo, kp, kp, photo)
    assert (out-photo).abs().mean() < .03

@pytest.mark.parametrize('size', [64, 96, 300])
def test_output_at_a_larger_side_shows_the_same_motion(system, size):
    seed_all(3)
    photo = F.interpolate(torch.rand(1, 3, 8, 8), (size, size), mode='bicubic').clamp(0, 1)
    a,b = ({'points': torch.zeros(1, 10, 2), 'marks': marks(x)} for x in (0., .15))
    seen = resize_to(photo, 64)
    with torch.no_grad(): large,small = system.render(seen, a, b, photo),system.render(seen, a, b, resize_to(photo, 32))
    assert large.shape[-1] == size and (resize_to(large, 32)-small).abs().mean() < .02

def test_in_relative_motion_a_half_shut_eye_shuts_in_proportion():
    mine,rest = marks(half=1.),marks(half=1.)
    half = rest.clone()
    above,below = [37, 38, 43, 44],[41, 40, 47, 46]
    def gap(p): return p[:, below, 1]-p[:, above, 1]
    half[:, above, 1] = half[:, below, 1]-.5*gap(rest)
    mine[:, above, 1] -= .05                                                   # wider eyes than the driver's
    assert torch.allclose(gap(carried_points(mine, half, rest)), .5*gap(mine), atol=1e-5)

def test_rendered_pairs_know_their_flow(crowd):
    "The source fetched along the known flow is the driving frame, where it is seen"
    truth = {i: crowd.known[i]['points'] for i in crowd.people}
    b = RenderedPairs(crowd, truth, Carrier(), cross=0.).batch(8, seed_all(0, 1))
    near = torch.stack([F.avg_pool2d(o[None], 2)[0] for o in b.small])
    source,driving = (cut(o, b.moved, 64) for o in near.split(8))
    fetched = F.grid_sample(source, b.place, padding_mode='border', align_corners=False)
    def wrong(x): return ((x-driving).abs().mean(1)*b.seen).sum()/b.seen.sum()
    assert b.seen.float().mean() > .1 and wrong(fetched) < .6*wrong(source)

def test_half_of_a_batch_is_rendered_where_rendered_people_take_part(crowd, system):
    class Filmed:
        def batch(self, n, rng):
            x = torch.zeros(n, 3, 64, 64)
            return plain_batch(x, x, marks().expand(n, 70, 2), marks().expand(n, 70, 2))
    rendered = RenderedPairs(crowd, crowd_marks(system.looker, crowd), system.carrier)
    both = FilmedAndRendered(Filmed(), rendered, 5).batch(seed_all(0, 1))
    assert [len(both), int(both.seen.flatten(1).any(1).sum())] == [5, 2]
    assert not FilmedAndRendered(Filmed(), None, 5).batch(seed_all(0, 1)).seen.any()

def test_a_term_of_weight_zero_is_left_out_and_every_network_learns(crowd):
    seed_all(0)
    s = Improved(32, **SMALL)
    truth = {i: crowd.known[i]['points'] for i in crowd.people}
    batch = RenderedPairs(crowd, truth, Carrier()).batch(4, seed_all(0, 1))
    assert set(improved_losses(s, batch, WEIGHTS | {'still': 0.})) == set(WEIGHTS)-{'features', 'still'}
    for _ in range(2):                              # heads start silent: the second step wakes the rest
        sum(s.losses('generator', batch).values()).backward()
        with torch.no_grad():
            for p in s.parameters(): p -= .01*p.grad if p.grad is not None else 0
    assert all(any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
               for net in s.players()['generator'])
    assert all(p.grad is None or not p.grad.abs().sum() for aid in (s.looker, s.carrier) for p in aid.parameters())

def test_precision_is_lowered_inside_the_networks_alone(crowd):
    "Places stay exact under autocast: the loss hardly differs"
    seed_all(0)
    s = Improved(32, **SMALL)
    truth = {i: crowd.known[i]['points'] for i in crowd.people}
    batch = RenderedPairs(crowd, truth, Carrier()).batch(4, seed_all(0, 1))
    def total():
        seed_all(0, 2)
        return sum(s.losses('generator', batch).values()).item()
    exact = total()
    with torch.autocast('cpu', torch.bfloat16): low = total()
    assert s.half and low == pytest.approx(exact, rel=.02)
    total()
    assert not s.half

def test_weights_to_begin_with(system):
    seed_all(5)
    other = Improved(32, **SMALL)
    other.begin_from(system)
    mine,theirs = other.state_dict(),system.state_dict()
    same = {k.split('.')[0] for k in mine if torch.equal(mine[k], theirs[k])}
    assert not torch.equal(mine['looker.whole.maps.weight'], theirs['looker.whole.maps.weight'])   # aids are its own
    assert torch.equal(mine['face_motion.head.weight'], theirs['face_motion.head.weight']) and 'detector' in same
    with pytest.raises(InputError, match='begin with other weights'): other.begin_from(Suggested(32, features=None))
