"Pretrained weights are there or the run stops; switches switch; costs are counted"
from urllib.error import URLError

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from facestudy.core import InputError, seed_all
from facestudy.method.encoders import resnet
from facestudy.method.keypoints import KeypointDetector
from facestudy.method.losses import VGG19, PerceptualLoss
from facestudy.method.motion import DenseMotion
from facestudy.study.bench import bare, frame_cost, step_memory
from facestudy.study.profiles import PROFILES
from facestudy.systems.registry import SYSTEMS
from facestudy.systems.suggested import Suggested


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    "A machine that cannot reach torchvision's hub and has nothing cached"
    def refuse(*a, **k): raise URLError('unreachable')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    for name in ('torch.hub.download_url_to_file', 'torchvision.models._api.load_state_dict_from_url'):
        monkeypatch.setattr(name, refuse)


def test_no_silent_random_encoder(no_hub):
    with pytest.raises(InputError, match='resnet18: the ImageNet weights cannot be fetched'):
        resnet('resnet18', 'imagenet')
    with pytest.raises(InputError, match='cannot be fetched'):
        Suggested(32, encoder_weights='imagenet', perceptual=0.)
    assert resnet('resnet18', None)


def test_no_silent_other_features(no_hub):
    with pytest.raises(InputError, match='vgg19: its ImageNet weights cannot be fetched'): PerceptualLoss('vgg19')
    with pytest.raises(InputError, match='vgg19'): Suggested(32, features='vgg19')


def test_eq3_through_vgg_taps():
    "Five layers of VGG-19, zero for equal images"
    judge = PerceptualLoss(VGG19(pretrained=False))
    x = torch.rand(1, 3, 32, 32)
    assert [f.shape[1] for f in judge.features(x)] == [64, 128, 256, 512, 512]
    assert judge(x, x) == 0 and judge(x, 1-x) > 0
    assert not any(p.requires_grad for p in judge.parameters())


@pytest.mark.parametrize('encoder', ['resnet18', 'resnet34', 'resnet50'])
def test_every_encoder(encoder):
    assert KeypointDetector(encoder=encoder).eval()(torch.rand(2, 3, 64, 64)).shape == (2, 10, 2)


def test_face_switch():
    "With the switch off the boxes change nothing"
    x = torch.rand(1, 3, 64, 64)
    here,there = torch.tensor([[0., 0., .3, .3]]),torch.tensor([[.4, .2, .3, .3]])
    on,off = (KeypointDetector(use_faces=use, stages=2).eval() for use in (True, False))
    assert torch.equal(off(x, here), off(x, there))
    assert not torch.equal(on(x, here), on(x, there))


@pytest.mark.parametrize('motion', ['affine', 'translation'])
def test_untrained_motion_is_the_identity(motion):
    seed_all(0)
    x,kp = torch.rand(1, 3, 64, 64), torch.rand(1, 10, 2)-.5
    flow = DenseMotion(motion=motion).eval()(x, kp, kp)
    assert (flow-DenseMotion(motion=motion).eval()(x, kp, kp)).abs().max() < 1e-4


def test_suggested_is_at_least_five_times_cheaper_at_256(monkeypatch):
    "Counted on tensors that have shapes and no values"
    monkeypatch.setattr('facestudy.training.system.shown', lambda frame, name: frame)
    with FakeTensorMode():
        assert 5*frame_cost(bare('suggested', 'paper').eval()) < frame_cost(bare('first_order', 'paper').eval())


def test_memory_grows_with_the_batch():
    a,b = (step_memory(bare('suggested_shared', 'smoke'), n) for n in (2, 4))
    assert a < b < 2*a


@pytest.mark.parametrize('system', SYSTEMS)
@pytest.mark.parametrize('profile', PROFILES)
def test_every_profile_builds(system, profile):
    assert bare(system, profile).size == PROFILES[profile].size
