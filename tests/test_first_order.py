"The first-order model with and without its judge"
import pytest
import torch
from facestudy.core import seed_all
from facestudy.systems.first_order import FirstOrder, Hourglass, discriminator_move, generator_move
from facestudy.method.generator import Discriminator
from facestudy.data.pairs import Pairs
from facestudy.training.recipe import Recipe
from facestudy.training.trainer import Trainer
from facestudy.nets import load_net, save_net
from test_training import toy_store

TINY = dict(size=32, detector=[8, 3, 32], detector_scale=1., motion=[8, 3, 32], motion_scale=1.,
            generator=[8, 32, 2, 1], perceptual=0., pixels=1.)
GAME = dict(adversarial=1., discriminator=[8, 3])


def tiny(**more):
    torch.set_num_threads(1)
    seed_all(0)
    return FirstOrder(**TINY | more)


def some_pairs(n=2):
    nobody = torch.full((n, 4), torch.nan)
    return Pairs(torch.rand(n, 3, 32, 32), torch.rand(n, 3, 32, 32), nobody, nobody)


def test_hourglass_carries_every_skip():
    seen = []
    def carry(skip):
        seen.append(skip.shape[1])
        return torch.cat([skip*0, torch.ones_like(skip[:, :1]).expand(-1, 4, -1, -1)], 1)
    seed_all(0)
    net = Hourglass(3, 8, 3, 32, extra=4).eval()
    a,b = (net(torch.rand(1, 3, 32, 32), carry) for _ in range(2))
    assert seen == [32, 32, 16, 3]*2 and a.shape == (1, 8+3+4, 32, 32)
    assert torch.equal(a, b) # emptied skips: nothing of the input is left
    seed_all(0)
    plain = Hourglass(3, 8, 3, 32)
    seed_all(0)
    same = Hourglass(3, 8, 3, 32, extra=0)
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(plain(x), same(x, lambda skip: skip))


def test_no_judge_by_default():
    "Without the game: neither discriminator nor second player; the other weights and terms are drawn alike with it"
    plain,rival,pairs = tiny(),tiny(**GAME),some_pairs()
    assert not any(k.startswith('discriminator') for k in plain.state_dict()) and list(plain.players()) == ['generator']
    assert list(rival.players()) == ['generator', 'discriminator']
    assert all(torch.equal(v, rival.state_dict()[k]) for k,v in plain.state_dict().items())
    seed_all(1)
    mine = plain.losses('generator', pairs)
    seed_all(1)
    theirs = rival.losses('generator', pairs)
    assert set(theirs)-set(mine) == {'adversarial', 'matching'}
    assert all(torch.equal(v, theirs[k]) for k,v in mine.items())


def test_no_weight_no_pull():
    "A game that weighs next to nothing leaves the generator's gradients as they are"
    grads = []
    for more in ({}, GAME | dict(adversarial=1e-12, feature_matching=0.)):
        system = tiny(**more)
        seed_all(1)
        sum(system.losses('generator', some_pairs()).values()).backward()
        grads.append(system.detector.maps.weight.grad)
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-7) and grads[0].abs().sum() > 0


def test_each_player_moves_its_own():
    system,pairs = tiny(**GAME),some_pairs()
    terms = system.losses('generator', pairs)
    (terms['adversarial']+terms['matching']).backward()
    mine = [p for m in system.players()['generator'] for p in m.parameters()]
    assert system.detector.maps.weight.grad.abs().sum() > 0                 # through the picture
    assert all(p.grad is None for p in system.discriminator.parameters())
    for p in mine: p.grad = None
    system.losses('discriminator', pairs)['discriminator'].backward()
    assert all(p.grad is None for p in mine) and all(p.grad is not None for p in system.discriminator.parameters())


def test_keypoints_do_not_please_the_judge():
    "The maps that the judge sees are detached, and it tells the places of equal pictures apart"
    system,pairs = tiny(**GAME),some_pairs()
    system.losses('generator', pairs)
    maps = system._made[2]
    assert maps.shape == (4, 10, 32, 32) and not maps.requires_grad and not system._made[0].requires_grad
    judge = system.discriminator.eval()
    assert not torch.equal(judge(pairs.source, maps[:2])[0], judge(pairs.source, maps[:2].flip(-1))[0])


def test_moves():
    seed_all(0)
    judge = Discriminator(8, 3, extra=2)
    x,y,maps = torch.rand(2, 3, 32, 32),torch.rand(2, 3, 32, 32),torch.rand(2, 2, 32, 32)
    score,apart = generator_move(judge, x, y, maps)
    assert torch.isclose(score, (1-judge(x, maps)[0]).square().mean())
    for d,a,b in zip(apart, judge(x, maps)[1], judge(y, maps)[1], strict=True):
        assert torch.isclose(d, (a-b).abs().mean())
    loss = discriminator_move(judge, x, y, maps)['discriminator']
    assert torch.isclose(loss, (1-judge(y, maps)[0]).square().mean() + judge(x, maps)[0].square().mean())


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_learns_with_a_judge(precision):
    recipe = Recipe(steps=24, batch=2, lr=3e-3, augment=0., precision=precision)
    trainer = Trainer(tiny(**GAME), toy_store(), recipe, device='cpu')
    trainer.run(measure_every=8)
    first,last = trainer.log[0],trainer.log[-1]
    assert last['pixels'] < .8*first['pixels'] and last['discriminator'] < first['discriminator']


def test_saved_and_loaded(tmp_path):
    system,source = tiny(**GAME).eval(),torch.rand(3, 32, 32)
    save_net(tmp_path/'m.safetensors', system, 'system')
    again = load_net(tmp_path/'m.safetensors', 'system')
    a,b = (next(s.animate(source, [source.flip(-1)])) for s in (system, again))
    assert (a == b).all()
    del system.discriminator
    assert (a == next(system.animate(source, [source.flip(-1)]))).all()
