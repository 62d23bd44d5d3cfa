"The parser of faces: facestudy.detectors.parser, on drawn people whose labels are known"
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from facestudy.core import InputError, save_tensors
from facestudy.data.clips import Segment
from facestudy.detectors.parser import (COLOURS, PARTS, SIDE, Parser, iou, layout_picture, one_hot, parse,
                                        parser_scores, train_parser, training_layouts)
from facestudy.nets import load_net, save_net

STEPS = 60 # Of the training that the tests share


def draw(rng, size=64):
    "A cartoon (S, S, 3) and its labels (S, S)"
    im,lab = np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8),np.zeros((size, size), np.uint8)
    x,y = (int(o) for o in rng.integers(26, 38, 2))
    def put(part, colour, centre, axes):
        cv2.ellipse(im, centre, axes, 0, 0, 360, tuple(map(int, colour)), -1)
        cv2.ellipse(lab, centre, axes, 0, 0, 360, PARTS.index(part), -1)
    skin = rng.integers(90, 240, 3)
    put('body', rng.integers(0, 256, 3), (x, y+36), (26, 20))
    put('hair', skin*.3, (x, y-4), (17, 20))
    put('face', skin, (x, y), (13, 17))
    put('mouth', (200, 40, 60), (x, y+9), (5, 2))
    for d in (-5, 5): put('eyes', (240, 240, 250), (x+d, y-3), (3, 2))
    return im,lab

class Drawn:
    "As much of a `ParametricStore` as the parser needs"
    size,folder = 64,Path('drawn')
    def __init__(self, n=6, t=8):
        rng = np.random.default_rng(0)
        self.data = {}
        for i in range(n):
            frames,labels = zip(*(draw(rng) for _ in range(t)))
            self.data[f'p{i}'] = np.stack(frames),np.stack(labels)
    def segments(self, split, hidden=None):
        names = list(self.data)
        return [Segment(k, k, 0, len(self.frames(k))) for k in (names[:4] if split == 'train' else names[4:])]
    def frames(self, name): return self.data[name][0]
    def truth(self, name): return SimpleNamespace(labels=self.data[name][1])

@pytest.fixture(scope='module')
def drawn(): return Drawn()

@pytest.fixture(scope='module')
def trained(drawn): return train_parser(drawn, steps=STEPS, batch=12, width=6)


def test_layouts_and_colours():
    y = torch.randint(len(PARTS), (2, 9, 7))
    assert torch.equal(one_hot(y).argmax(1), y) and torch.equal(one_hot(y).sum(1), torch.ones(2, 9, 7))
    assert np.allclose(layout_picture(one_hot(y))[1, :, 3, 4], COLOURS[y[1, 3, 4]])

@pytest.mark.parametrize('size', [32, 48, 64, 128])
def test_probabilities_at_every_size(size):
    p = parse(Parser(4), torch.rand(2, 3, size, size))
    assert p.shape == (2, len(PARTS), size, size) and not p.requires_grad
    assert torch.allclose(p.sum(1), torch.ones(2, size, size), atol=1e-5)

def test_parse_leaves_the_mode_alone():
    net = Parser(4).train()
    stats = {k: v.clone() for k,v in net.state_dict().items()}
    parse(net, torch.rand(3, 3, 64, 64))
    assert net.training
    assert all(torch.equal(v, stats[k]) for k,v in net.state_dict().items())         # no statistics were updated

def test_frames_do_not_depend_on_their_batch(trained):
    x = torch.rand(4, 3, 64, 64)
    assert torch.allclose(parse(trained[0], x)[2:3], parse(trained[0], x[2:3]), atol=1e-4)

def test_exposure_does_not_matter(drawn, trained):
    x = torch.from_numpy(drawn.frames('p5')[:4]).permute(0, 3, 1, 2)/255
    assert (parse(trained[0], x*.5+.2).argmax(1) == parse(trained[0], x).argmax(1)).float().mean() > .97

def test_augmentation_moves_both_and_stays_in_range(drawn):
    torch.manual_seed(0)
    x,y = torch.from_numpy(drawn.frames('p0')).permute(0, 3, 1, 2)/255,torch.from_numpy(drawn.truth('p0').labels)
    a,b = training_layouts(x, y, 0)
    assert torch.allclose(a, x, atol=1e-4) and torch.equal(b, y.long())
    for _ in range(5):
        a,b = training_layouts(x, y)
        assert a.shape == (8, 3, SIDE, SIDE) and 0 <= a.min() and a.max() <= 1
        assert b.max() < len(PARTS) and not torch.equal(b, y.long())

def test_iou_by_hand():
    a,b = np.array([[0, 0, 3, 3]]),np.array([[0, 3, 3, 3]])
    assert np.allclose(iou(a, b)[[0, 3]], [1/2, 2/3])
    assert np.isnan(iou(a, b)[[1, 2, 4, 5]]).all()
    assert np.nanmin(iou(a, a)) == 1

def test_learns(drawn, trained):
    model,log = trained
    scores = parser_scores(model, drawn)
    assert list(log) == ['step', 'lr', 'loss'] and len(log) == STEPS
    assert log.loss[-10:].mean() < .6*log.loss[:5].mean()
    assert list(scores) == ['part', 'iou', 'share'] and tuple(scores.part) == PARTS
    assert np.isclose(scores.share.sum(), 1)
    assert scores.iou.mean() > .45 and scores.iou.mean() > 2*np.nanmean(parser_scores(Parser(6), drawn).iou)

def test_same_twice(drawn):
    (a,x),(b,y) = (train_parser(drawn, steps=3, batch=4, width=4, seed=5) for _ in range(2))
    assert x.equals(y)
    assert all(torch.equal(p, q) for p,q in zip(a.state_dict().values(), b.state_dict().values()))

def test_checkpoint(tmp_path, drawn, trained):
    f = tmp_path/'p.safetensors'
    save_net(f, trained[0], 'parser', steps=STEPS)
    back,x = load_net(f, 'parser'),torch.rand(2, 3, 64, 64)
    assert torch.equal(parse(back, x), parse(trained[0], x)) and not back.training
    older = {'kind': 'parser', 'version': 1, 'width': 6, 'parts': PARTS}
    (tmp_path/'x.safetensors').write_bytes(f.read_bytes()[:100])
    changes = dict(o={}, y={'kind': 'landmarker'}, z={'width': 5}, v={'version': 0}, q={'parts': ['nose']})
    for name,change in changes.items():
        save_tensors(tmp_path/f'{name}.safetensors', back.state_dict(), older | change)
    assert torch.equal(parse(load_net(tmp_path/'o.safetensors'), x), parse(trained[0], x))
    refused = dict(x='damaged', y='holds landmarker, not a trained parser', z='do not fit', v='train it again',
                   q='other parts', w='no such file')
    for name,says in refused.items():
        with pytest.raises(InputError, match=says): load_net(tmp_path/f'{name}.safetensors', 'parser')

def test_nothing_to_train_on():
    class Empty(Drawn):
        def segments(self, *a, **kw): return []
    with pytest.raises(InputError, match='nothing to train'): train_parser(Empty(1, 2), steps=1)

def test_size():
    assert sum(p.numel() for p in Parser().parameters()) < 400_000
