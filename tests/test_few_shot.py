"Few-shot: the driving frame is its landmarks and nothing else; identity comes from the sources and nothing else"
import numpy as np
import pytest
import torch

from facestudy.core import InputError, seed_all
from facestudy.systems.few_shot import FewShot, ProjectionDiscriminator, SelfAttention, draw_landmarks, fine_tune
from facestudy.detectors.landmarker import Landmarker
from facestudy.data.pairs import Pairs
from facestudy.systems.suggested import transfer
from facestudy.nets import load_net, save_net

TINY = dict(size=32, embedder=[8, 16, 16], generator=[8, 16], blocks=1, last=8, discriminator=[8, 16, 16], attention=8,
            perceptual=0., pixels=1., adversarial=.1, feature=1., match=.1)
FACE = torch.tensor([0., 0, .5, .5])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    seed_all(0)


def shape(n):
    "n made-up faces (n, 68, 2)"
    return torch.rand(n, 68, 2)*1.2-.6


def system(**kw): return FewShot(**TINY | {'people': 3} | kw).eval()


def batch(n=2, more=3):
    faces = FACE.expand(n, 4)
    source,driving = torch.rand(n, 3, 32, 32),torch.rand(n, 3, 32, 32)
    pictures = torch.rand(n, more, 3, 32, 32) if more else None
    return Pairs(source, driving, faces, faces, torch.arange(n), pictures, FACE.expand(n, more, 4) if more else None)


def grads(module): return [p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters()]


@pytest.mark.parametrize('size', [16, 33, 64])
def test_drawing_at_any_size(size):
    points = shape(3)
    image = draw_landmarks(points, size)
    assert image.shape == (3, 3, size, size) and image.dtype == torch.float32 and 0 <= image.min() < image.max() <= 1
    assert torch.allclose(image[1], draw_landmarks(points[1:2], size)[0])
    assert not draw_landmarks(points+5, size).any()                                # outside: nothing


def test_every_landmark_is_drawn_and_can_be_moved_by_gradient():
    points = shape(1).requires_grad_()
    (draw_landmarks(points, 64)*torch.rand(1, 3, 64, 64)).sum().backward()
    assert (points.grad.abs().sum(-1) > 0).sum() >= 66


def test_drawing_ignores_autocast():
    points = shape(2)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(draw_landmarks(points, 32), draw_landmarks(points, 32).float())
    with torch.autocast('cpu', torch.bfloat16): low = draw_landmarks(points, 32)
    assert torch.equal(low, draw_landmarks(points, 32))


@pytest.mark.parametrize('more', [0, 3])
@pytest.mark.parametrize('precision', [torch.float32, torch.bfloat16])
def test_each_player_moves_its_own_weights(more, precision):
    s,pairs = system().train(),batch(more=more)
    assert not s.landmarker.training
    for m in s.modules():
        # it starts with 0, where its kernels have no gradient yet
        if isinstance(m, SelfAttention): torch.nn.init.constant_(m.strength, .5)
    with torch.autocast('cpu', precision, enabled=precision != torch.float32): terms = s.losses('generator', pairs)
    assert set(terms) == {'pixels', 'adversarial', 'feature', 'match'} and all(v.isfinite() for v in terms.values())
    sum(terms.values()).backward()
    assert np.mean(grads(s.embedder)) > .9 and np.mean(grads(s.generator)) > .9 and all(grads(s.manner))
    assert not any(grads(s.discriminator)) and not any(grads(s.landmarker))
    s.zero_grad()
    s.losses('discriminator', pairs)['discriminator'].backward()
    assert np.mean(grads(s.discriminator)) > .9 and not any(grads(s.embedder)+grads(s.generator)+grads(s.manner))
    moved = s.discriminator.people.grad
    assert moved[:2].any() and not moved[2].any() # the third person was not in the batch


def test_one_to_four_sources_are_embedded():
    s,pairs,seen = system(),batch(),[]
    s.embedder.register_forward_hook(lambda m,i,o: seen.append(len(o)))
    for _ in range(40): s.losses('generator', pairs)
    assert set(seen) == {4, 6, 8, 10} # both frames of two pairs, and 0 to 3 others of each


def test_mean_embedding_counts_every_frame_once():
    s,pairs = system(),batch(n=1)
    images,faces = torch.cat([pairs.source, pairs.driving]),FACE.expand(2, 4)
    alone = lambda x: s.embedder(x, draw_landmarks(s.points(x, FACE.expand(len(x), 4)), 32))
    own,other = alone(images),alone(pairs.more[0])
    seen = {}
    for seed in range(6):
        seed_all(seed)
        k = int(torch.randint(4, ()))
        seed_all(seed)
        seen[k] = s._embed(images, faces, pairs.more, pairs.more_face)[1]
    for k,e in seen.items(): assert torch.allclose(e, (own+other[:k].sum(0))/(k+1), atol=1e-5)
    assert len(seen) > 1


def test_the_driving_frame_is_its_landmarks_and_nothing_else():
    s,source,points = system(),torch.rand(3, 32, 32),shape(1)
    s.points = lambda images,faces=None: points.expand(len(images), -1, -1)
    black,noise = (list(s.animate(source, [x])) for x in (torch.zeros(3, 32, 32), torch.rand(3, 32, 32)))
    assert (black[0] == noise[0]).all()
    points = shape(1)
    assert (next(s.animate(source, [torch.zeros(3, 32, 32)])) != black[0]).any()


def test_identity_is_the_style():
    s,a,b = system(),torch.rand(3, 32, 32),torch.rand(3, 32, 32)
    drive = [torch.rand(3, 32, 32)]
    torch.nn.init.normal_(s.manner.weight, std=20)
    photos = a, b, torch.stack([a, b]), torch.stack([b, a])
    first,second,both,turned = (next(s.animate(x, drive)).astype(int) for x in photos)
    assert np.abs(first-second).max() > 2 and np.abs(both-first).max() > 0
    assert np.abs(both-turned).max() <= 1                                          # a set of photographs has no order


def test_frames_do_not_depend_on_the_batch():
    s,source = system(),torch.rand(3, 32, 32)
    drive,faces = list(torch.rand(5, 3, 32, 32)),FACE.expand(5, 4)
    one,all_ = (np.stack(list(s.animate(source, iter(drive), FACE, faces, batch=n))).astype(int) for n in (1, 5))
    assert one.shape == (5, 32, 32, 3) and np.abs(one-all_).max() <= 1


def test_relative_motion():
    s,source,drawn = system(),torch.rand(3, 32, 32),[]
    table = shape(4) # the source's landmarks, then those of three driving frames
    s.points = lambda images,faces=None: table[(images[:, 0, 0, 0]*4).long()]
    s.generator.register_forward_hook(lambda m,i,o: drawn.append(i[0]))
    still = [torch.full((3, 32, 32), k/4) for k in range(4)]
    list(s.animate(still[0], still[1:], relative=True, batch=2))
    want = transfer(*({'points': o} for o in (table[:1], table[1:], table[1:2])))['points']
    assert torch.allclose(torch.cat(drawn), draw_landmarks(want, 32), atol=1e-6)
    assert torch.allclose(want[0], table[0], atol=1e-6) # nothing moved yet: the source's own landmarks
    assert list(s.animate(source, [], relative=True)) == []


def test_discriminator_knows_people():
    d = ProjectionDiscriminator(2, 32, [8, 16, 16], 8).eval()
    x,y = torch.rand(1, 3, 32, 32),torch.rand(1, 3, 32, 32)
    first,second = (d(x, y, torch.tensor([i]))[0] for i in (0, 1))
    assert first != second and d(x, y, torch.tensor([0]))[0] != d(x, 1-y, torch.tensor([0]))[0]


def test_saved_and_loaded_without_its_discriminator(tmp_path):
    s = system()
    s.take_aid('landmarker', Landmarker(16))
    save_net(tmp_path/'s.safetensors', s, 'system')
    save_net(tmp_path/'slim.safetensors', s, 'system', slim=True)
    for f in ('s', 'slim'):
        t = load_net(tmp_path/f'{f}.safetensors', 'system')
        assert t.discriminator is None and t.config['people'] == 3
        drive = [torch.rand(3, 32, 32)]
        a,b = (next(o.animate(drive[0], drive)).astype(int) for o in (s, t))
        assert np.abs(a-b).max() <= (0 if f == 's' else 5)          # eight bits move a colour by a few levels of 255


def test_says_what_is_missing():
    with pytest.raises(InputError, match='how many people'): system(people=None).losses('generator', batch())
    with pytest.raises(InputError, match='end alike'): system(discriminator=[8, 8])
    s = system(people=None, adversarial=0.)
    assert set(s.losses('generator', batch())) == {'pixels'} and list(s.players()) == ['generator']


@pytest.mark.parametrize('people', [3, None])
def test_fine_tuning_adapts_a_copy(people, tmp_path):
    s,frames,faces = system(people=people),torch.rand(2, 3, 32, 32),FACE.expand(2, 4)
    before = {k: v.clone() for k,v in s.state_dict().items()}
    new = fine_tune(s, frames, faces, steps=25, lr=5e-3)
    assert all(torch.equal(v, s.state_dict()[k]) for k,v in before.items()) and s.config['tuned'] is None
    assert new.config['tuned'] == ('pixels, adversarial, feature' if people else 'pixels')
    def error(o):
        made = np.stack(list(o.animate(frames[0], frames, faces[0], faces)))/255
        return np.abs(made - frames.permute(0, 2, 3, 1).numpy()).mean()

    assert error(new) < .98*error(s) # noise, but its colours and contrast can be met
    save_net(tmp_path/'t.safetensors', new, 'system')
    again = load_net(tmp_path/'t.safetensors', 'system')
    assert torch.equal(again.psi, new.psi) and abs(error(again)-error(new)) < 1e-6
