"The landmark network: facestudy.detectors.landmarker, on drawn faces whose points are known"
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facestudy.core import InputError, save_tensors
from facestudy.data.clips import Segment
from facestudy.detectors.landmarker import (MIRRORED, POINTS, SIDE, Landmarker, crop_faces, crop_map, find_landmarks,
                                            grey, into_crop, into_frame, landmark_errors, mean_landmarker, mean_place,
                                            train_landmarker, training_crops)
from facestudy.grids import from_pixels
from facestudy.nets import load_net, save_net
from facestudy.people.motion import sweep


def ring(x, y, rx, ry, n):
    "n points of an ellipse around (x, y)"
    k = np.linspace(np.pi, 3*np.pi, n, endpoint=False)
    return np.c_[x+rx*np.cos(k), y+ry*np.sin(k)]

def shape():
    "68 points of a front view in units of the box: 0 to 1"
    a = np.linspace(np.pi, 0, 17)
    jaw = np.c_[.5+.46*np.cos(a), .45+.55*np.sin(a)]
    brows = [np.c_[np.linspace(x, x+.26, 5), [.24, .21, .2, .21, .23]] for x in (.15, .59)]
    nose = [np.c_[np.full(4, .5), np.linspace(.36, .54, 4)], np.c_[np.linspace(.4, .6, 5), [.6, .61, .62, .61, .6]]]
    eyes = [ring(.3, .36, .09, .04, 6), ring(.7, .36, .09, .04, 6)]
    lips = [ring(.5, .77, .18, .07, 12), ring(.5, .77, .13, .03, 8)]
    return np.concatenate([jaw, *brows, *nose, *eyes, *lips])

def draw(points, size, rng):
    "A cartoon with those points (68, 2) in pixels"
    im = np.full((size, size, 3), rng.integers(60, 120), np.uint8)
    skin = int(rng.integers(150, 230))
    def fine(k): return [np.round(points[k]*16).astype(np.int32)]             # sixteenths of a pixel: cv2's shift of 4
    def fill(k, c): cv2.fillPoly(im, fine(k), (c, c, c), cv2.LINE_AA, 4)
    fill(np.r_[0:17, 26:16:-1], skin)
    fill(slice(48, 60), skin-90)
    fill(slice(60, 68), 20)
    for k in (slice(36, 42), slice(42, 48)): fill(k, 30)
    for k in (slice(17, 22), slice(22, 27)): cv2.polylines(im, fine(k), False, (40,)*3, 2, cv2.LINE_AA, 4)
    return im

STEPS = 120 # Of the training that the tests share

@dataclass
class Known:
    "Exact landmarks, all of them visible"
    landmarks:np.ndarray
    visible:np.ndarray

class Drawn:
    "As much of a `ParametricStore` as landmarks need"
    size,folder = 64,Path('drawn')
    def __init__(self, n=6, t=20):
        rng = np.random.default_rng(0)
        self.data = {}
        for i in range(n):
            box = np.c_[rng.uniform(10, 20, (t, 2)), np.repeat(rng.uniform(32, 40, (t, 1)), 2, 1)]
            wild = np.zeros((t, POINTS, 2))
            wild[:, 48:] = rng.normal(0, .05, (t, 1, 2))
            wild[:, 36:48] = rng.normal(0, .04, (t, 1, 2))
            pts = (shape()+wild)*box[:, None, 2:]+box[:, None, :2]
            found = box+rng.uniform(-4, 4, (t, 2))[:, [0, 1, 0, 0]]*[1, 1, .5, .5]    # a detector's box is a little off
            faces = np.c_[(found[:, :2]+found[:, 2:]/2)/32-1, found[:, 2:]/64].astype(np.float32)
            self.data[f'p{i}-m0'] = np.stack([draw(o, 64, rng) for o in pts]),faces,pts.astype(np.float32)
    def segments(self, split, hidden=None):
        names = list(self.data)
        return [Segment(k, k, 0, len(self.frames(k))) for k in (names[:4] if split == 'train' else names[4:])]
    def frames(self, name): return self.data[name][0]
    def faces(self, name): return self.data[name][1]
    def truth(self, name):
        points = self.data[name][2]
        return Known(points, np.ones(points.shape[:2], bool))
    def motion_of(self, name): return sweep(20)

@pytest.fixture(scope='module')
def drawn(): return Drawn()

@pytest.fixture(scope='module')
def trained(drawn): return train_landmarker(drawn, steps=STEPS, batch=16, width=8)


def test_mirror_names():
    assert sorted(MIRRORED) == list(range(POINTS)) and (MIRRORED[MIRRORED] == np.arange(POINTS)).all()
    p = shape()
    assert np.allclose(p[MIRRORED]*[-1, 1]+[1, 0], p, atol=.02)            # a symmetric face is its own mirror image

def test_mean_place():
    x = torch.full((1, 1, 8, 8), -60.)
    x[0, 0, 0, 7] = 60
    assert torch.allclose(mean_place(x), from_pixels(torch.tensor([[[7., 0.]]]), 8), atol=1e-5)

def test_crop_map_goes_both_ways():
    torch.manual_seed(0)
    faces = torch.tensor([[.1, .2, .4, .4], [-.2, 0, .3, .35]])
    shift,flip = torch.tensor([[.1, 0], [0, -.1]]),torch.tensor([1., -1.])
    theta = crop_map(faces, torch.tensor([.2, -.3]), torch.tensor([1.1, .9]), shift, flip)
    p = torch.rand(2, 68, 2)*2-1
    assert torch.allclose(into_frame(into_crop(p, theta), theta), p, atol=1e-5)
    assert theta[0, :, :2].det() > 0 > theta[1, :, :2].det()

def test_crops_follow_points(drawn):
    "A white dot in the frame is where its point is in the crop, mirrored or not"
    torch.manual_seed(1)
    im,where = torch.zeros(8, 1, 64, 64),torch.randint(24, 40, (8, 2))
    for i,(x,y) in enumerate(where.tolist()): im[i, :, y, x] = 1
    faces = torch.tensor([[0, 0, .5, .5]]*8)
    points = from_pixels(where, 64)[:, None].repeat(1, 68, 1).float()
    brightest = crop_faces(im, crop_map(faces)).flatten(1).argmax(1)
    found = from_pixels(torch.stack([brightest%SIDE, brightest//SIDE], 1), SIDE)
    assert (found-into_crop(points, crop_map(faces))[:, 0]).abs().max() < .04
    crops,points = training_crops(im, faces, points)
    assert crops.shape == (8, 1, SIDE, SIDE) and points.shape == (8, 68, 2) and torch.isfinite(crops).all()

def test_light_does_not_matter(drawn):
    im = grey(drawn.frames('p0-m0')[:2])
    theta = crop_map(torch.from_numpy(drawn.faces('p0-m0')[:2]))
    a,b = crop_faces(im, theta),crop_faces(im*.6+.1, theta)
    assert (a-b).abs().max() < .25 and a.mean().abs() < 1e-4

def test_learns(drawn, trained):
    model,log = trained
    assert list(log) == ['step', 'lr', 'loss'] and len(log) == STEPS
    assert log.loss[-10:].mean() < .4*log.loss[:5].mean()
    boxes = landmark_errors(mean_landmarker(drawn), drawn)
    net = landmark_errors(partial(find_landmarks, model), drawn)
    assert list(net) == ['clip', 'frame', 'yaw', 'error', 'visible'] and len(net) == 40
    assert np.allclose(net.error, net.visible)
    assert net.error.mean() < .8*boxes.error.mean()

def test_errors_by_hand(drawn):
    "A detector that is off by a tenth of the eye distance in x"
    def off(frames, faces):
        p = next(v[2] for v in drawn.data.values() if v[0] is frames or np.array_equal(v[0], frames))
        return from_pixels(p + np.array([.1, 0])*np.linalg.norm(p[:, 36]-p[:, 45], axis=-1)[:, None, None], 64)
    assert np.allclose(landmark_errors(off, drawn).error, .1, atol=1e-5)

def test_same_twice(drawn):
    (a,x),(b,y) = (train_landmarker(drawn, steps=3, batch=4, width=8, seed=5) for _ in range(2))
    assert x.equals(y)
    assert all(torch.equal(p, q) for p,q in zip(a.state_dict().values(), b.state_dict().values()))

def test_frames_without_a_face(drawn, trained):
    faces = drawn.faces('p5-m0').copy()
    faces[3] = np.nan
    p = find_landmarks(trained[0], drawn.frames('p5-m0'), faces)
    assert p.shape == (20, 68, 2) and p.dtype == np.float32
    assert np.isnan(p[3]).all() and np.isfinite(np.delete(p, 3, 0)).all()
    assert np.isnan(find_landmarks(trained[0], drawn.frames('p5-m0'), faces*np.nan)).all()

def test_checkpoint(tmp_path, drawn, trained):
    f = tmp_path/'l.safetensors'
    save_net(f, trained[0], 'landmarker', steps=STEPS)
    back = load_net(f, 'landmarker')
    args = drawn.frames('p4-m0'),drawn.faces('p4-m0')
    assert (find_landmarks(back, *args) == find_landmarks(trained[0], *args)).all() and not back.training
    (tmp_path/'x.safetensors').write_bytes(f.read_bytes()[:100])
    older = {'kind': 'landmarker', 'version': 2, 'width': 8}
    for name,change in dict(o={}, y={'kind': 'superres'}, z={'width': 12}, v={'version': 0}).items():
        save_tensors(tmp_path/f'{name}.safetensors', back.state_dict(), older | change)
    assert (find_landmarks(load_net(tmp_path/'o.safetensors'), *args) == find_landmarks(trained[0], *args)).all()
    refused = dict(x='damaged', y='holds superres, not a trained landmarker', z='do not fit', v='train it again',
                   w='no such file')
    for name,says in refused.items():
        with pytest.raises(InputError, match=says): load_net(tmp_path/f'{name}.safetensors', 'landmarker')

def test_nothing_to_train_on(drawn):
    class Empty(Drawn):
        def segments(self, *a, **kw): return []
    with pytest.raises(InputError, match='nothing to train'): train_landmarker(Empty(1, 2), steps=1)

def test_size():
    assert sum(p.numel() for p in Landmarker().parameters()) < 400_000
