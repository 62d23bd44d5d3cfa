"Encoders of the keypoint detector, and faces that carry landmarks"
import pytest
import torch

from facestudy.core import InputError, seed_all
from facestudy.data.pairs import Pairs
from facestudy.method.encoders import ENCODERS, Encoder
from facestudy.method.keypoints import KeypointDetector, face_prior
from facestudy.systems.suggested_superres import SuggestedSuperres
from facestudy.training.recipe import Recipe
from facestudy.training.trainer import Trainer
from facestudy.nets import load_net, save_net

TINY = dict(encoder_stages=2, motion_widths=[8, 16, 16], generator_widths=[8, 16, 16], perceptual=0., pixels=1.)


def pairs(faces=4):
    seed_all(0)
    return Pairs(*torch.rand(2, 2, 3, 32, 32), *torch.rand(2, 2, faces).mul(.5))


@pytest.mark.parametrize('name', ENCODERS)
def test_every_encoder_learns(name):
    system = SuggestedSuperres(32, superres_width=0, encoder=name, adversarial=0., **TINY).train()
    sum(system.losses('generator', pairs()).values()).backward()
    grads = [p.grad for p in system.detector.encoder.parameters()]
    assert all(g is not None for g in grads) and sum(g.abs().sum() for g in grads) > 0


def test_pretrained_weights_do_not_matter_to_a_loaded_system(tmp_path):
    pretrained = dict(encoder='efficientnet_lite0', encoder_weights='imagenet')
    system = SuggestedSuperres(32, superres_width=0, adversarial=0., **pretrained, **TINY)
    save_net(tmp_path/'a.safetensors', system, 'system')
    again = load_net(tmp_path/'a.safetensors', 'system')
    for a,b in zip(system.state_dict().values(), again.state_dict().values()): assert torch.equal(a, b)


def test_landmarks_behind_the_box_are_homes():
    points = torch.tensor([[.5, -.5]*10])
    face = torch.cat([torch.tensor([[0., 0, .4, .4]]), points], -1)
    detector = KeypointDetector(stages=2).eval()
    def distance(f): return (detector(torch.zeros(1, 3, 64, 64), f)-torch.tensor([.5, -.5])).norm(dim=-1).mean()
    assert distance(face) < distance(face[:, :4])/2

def test_unknown_landmarks_fall_back_to_the_box():
    face = torch.cat([torch.tensor([[0., 0, .4, .4]]), torch.tensor([[.5, -.5]*10])], -1)
    half = face.clone()
    half[:, 4:14] = torch.nan
    prior,box,points = (face_prior(f, 10, 16, 16) for f in (half, face[:, :4], face))
    assert torch.equal(prior[:, :5], box[:, :5])
    assert torch.equal(prior[:, 5:], points[:, 5:])


def test_a_system_trains_on_landmarks():
    system = SuggestedSuperres(32, superres_width=0, adversarial=0., **TINY).train()
    assert all(torch.isfinite(v) for v in system.losses('generator', pairs(24)).values())


def test_more_stages_than_there_are():
    with pytest.raises(InputError, match='no more than 3'): Encoder('efficientnet_lite0', stages=4)


def test_switch_at_reaches_swats(embedded):
    system = SuggestedSuperres(32, superres_width=0, adversarial=0., **TINY)
    recipe = Recipe(steps=6, batch=2, optimiser='swats', schedule='constant', lr=1e-4, average=0., switch_at=3)
    trainer = Trainer(system, embedded, recipe, device='cpu')
    for _ in range(6): trainer.train_step()
    opt = trainer.opts['generator']
    assert opt.param_groups[0]['switch_at'] == 3 and (opt.phase == 'adam' or opt.switch_step >= 3)
