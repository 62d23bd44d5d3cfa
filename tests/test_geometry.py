"What the face does: facestudy.measure.geometry, on drawn points and films whose motion is known"
import math

import numpy as np
import pytest
import torch
from skimage.transform import estimate_transform

from facestudy.core import InputError
from facestudy.data.pairs import move_faces
from facestudy.measure.geometry import (EXPRESSIVE, LEAST, MOVES, STEADY, Move, apply_similarity, deformation,
                                        expression, eye_boxes, eye_error, fit_similarity, interocular,
                                        keypoint_stability, landmark_error, motion_parts, move_map, pupil_error,
                                        sequence_error, transferred)


@pytest.fixture
def face():
    "(68, 2): a face whose outer eye corners are 0.6 apart, and whose other points are scattered"
    p = np.random.default_rng(1).uniform(-.4, .4, (68, 2))
    p[[36, 39, 42, 45]] = [[-.3, -.1], [-.1, -.1], [.1, -.1], [.3, -.1]]
    p[30] = 0, .1
    return p

def film(face, angles=0., shift=(0., 0.), open_=0., nose=0., t=7):
    "The face in `t` frames, each quantity growing from 0 to its value"
    u = np.linspace(0, 1, t)
    p = np.repeat(face[None], t, 0)
    p[:, 48:68, 1] += (u*open_)[:, None]
    p[:, 30, 0] += u*nose
    return apply_similarity(p, u*angles, np.ones(t), u[:, None]*np.asarray(shift))


def test_errors_are_in_eye_distances(face):
    truth = film(face)
    assert np.allclose(interocular(truth), .6)
    assert np.allclose(landmark_error(truth, truth+[.03, .04]), .05/.6)
    assert np.allclose(landmark_error(3*truth, 3*(truth+[.03, .04])), .05/.6)     # a nearer face, the same error

def test_unknown_stays_unknown(face):
    truth = film(face, open_=.1)
    output = truth.copy()
    output[3] = np.nan
    assert np.isnan(landmark_error(truth, output)).nonzero()[0].tolist() == [3]
    assert np.isnan(deformation(truth, output)).nonzero()[0].tolist() == [3]
    assert np.isnan(deformation(output, truth)).nonzero()[0].tolist() == [3]
    assert np.isnan(sequence_error(truth, output)).nonzero()[0].tolist() == [2, 3]
    assert np.isnan(motion_parts(output)).any(axis=1).to_numpy().nonzero()[0].tolist() == [3]
    assert np.isnan(transferred(output[3:4].repeat(4, 0), truth[:4])['expression'])

def test_similarity_is_the_best_one(face):
    rng = np.random.default_rng(0)
    a = film(face, open_=.2)
    angles,sizes = np.linspace(-170, 170, 7),np.linspace(.5, 2, 7)
    b = apply_similarity(a, angles, sizes, rng.normal(0, 1, (7, 2)))
    rotation,scale,_ = fit_similarity(a, b)
    assert np.allclose(rotation, angles) and np.allclose(scale, sizes)
    b += rng.normal(0, .1, b.shape)
    fitted = apply_similarity(a, *fit_similarity(a, b))
    for x,y,z in zip(a, b, fitted): assert np.allclose(estimate_transform('similarity', x, y)(x), z)

def test_a_mirrored_face_is_deformed(face):
    truth = film(face)
    assert (deformation(truth, truth*[-1, 1]) > .1).all() and np.allclose(deformation(truth, 2*truth+1), 0)

def test_deformation_is_bounded_by_the_face(face):
    truth = film(face)
    largest = deformation(truth, 0*truth)
    wild = np.random.default_rng(0).normal(0, 100, truth.shape)
    assert (deformation(truth, wild) <= largest+1e-9).all() and (deformation(truth, wild) > .5*largest).all()

def test_sequence_error_ignores_what_stays(face):
    truth = film(face, open_=.2)
    assert np.allclose(sequence_error(truth, truth+.3), 0)
    missed = .2/6*20/68                                    # twenty points of the mouth miss a sixth of 0.2 each time
    assert np.allclose(sequence_error(truth, truth[[0]*7]), missed/.6)

def test_motion_parts_tell_what_moved(face):
    m = motion_parts(film(face, angles=30))
    assert np.allclose(m.rotation, np.linspace(0, 30, 7)) and np.allclose(m[['size', 'yaw']], 0)
    m = motion_parts(film(face, shift=(.3, -.06)))
    assert np.allclose(m.x, np.linspace(0, .5, 7)) and np.allclose(m.y, np.linspace(0, -.1, 7))
    assert np.allclose(m[['rotation', 'size', 'yaw']], 0)
    m = motion_parts(film(face, nose=.06, angles=30))
    assert np.allclose(m.yaw, np.linspace(0, .1, 7)) and np.allclose(m.rotation, np.linspace(0, 30, 7))
    e = expression(film(face, open_=.06, angles=30, shift=(.1, .2)))
    mouth = np.isin(EXPRESSIVE, range(48, 68))
    assert np.allclose(e[-1][mouth], [0, .1]) and np.allclose(e[:, ~mouth], 0)
    assert not set(EXPRESSIVE) & set(STEADY)

@pytest.mark.parametrize('part,move', [
    ('rotation', dict(angles=20)), ('translation', dict(shift=(.2, .1))), ('turn', dict(nose=.1)),
    ('expression', dict(open_=.2))])
@pytest.mark.parametrize('share', [1, .5, 0, -1])
def test_transferred_is_the_share_that_moved(face, part, move, share):
    got = transferred(film(face, **move), film(face, **{k: np.multiply(v, share) for k,v in move.items()}))
    assert got[part] == pytest.approx(share, abs=1e-6)
    assert set(got) == set(LEAST) and (part == 'rotation' or math.isnan(got['rotation']))

def test_transferred_leaves_out_unknown_frames_and_the_source(face):
    truth = film(face, angles=20)
    output = truth.copy()
    output[2] = np.nan
    output[0] += .3
    assert transferred(truth, output)['rotation'] == pytest.approx(1)
    assert math.isnan(transferred(truth, output*np.nan)['rotation'])
    truth[0] = np.nan
    assert all(math.isnan(v) for v in transferred(truth, output).values())

def test_a_part_that_hardly_moves_is_not_scored(face):
    limit = LEAST['rotation']*12/7                             # the mean of 1/6, 2/6, ... 1 is 7/12
    for angle,scored in ((.98*limit, False), (1.02*limit, True)):
        truth = film(face, angles=angle)
        assert math.isfinite(transferred(truth, truth)['rotation']) == scored

def test_motion_needs_fitting_sequences(face):
    for f in (sequence_error, transferred):
        with pytest.raises(InputError, match='two frames'): f(face[None], face[None])
    with pytest.raises(InputError, match='one row per frame'): landmark_error(film(face), film(face, t=3))
    with pytest.raises(InputError, match='68, 2'): motion_parts(face)


def eyes(dx=0., dy=0., size=64):
    "A frame with two dark Gaussian pupils in eyes 16 pixels wide, and its points"
    y,x = np.mgrid[:size, :size]
    p = np.zeros((1, 68, 2))
    im = np.full((size, size), 200.)
    for i,cx in ((36, 18), (42, 44)):
        im -= 170*np.exp(-((x-cx-dx)**2+(y-30-dy)**2)/8)
        outline = np.array([[cx-8, 30], [cx-3, 26], [cx+3, 26], [cx+8, 30], [cx+3, 34], [cx-3, 34]])
        p[0, i:i+6] = outline/((size-1)/2)-1
    return np.repeat(im.round().astype(np.uint8)[None, ..., None], 3, -1),p

@pytest.mark.parametrize('dx,dy', [(1, 0), (-2.5, 0), (0, 1), (2, -1)])
def test_pupil_error_is_a_distance_in_eye_widths(dx, dy):
    base,p = eyes()
    assert pupil_error(base, eyes(dx, dy)[0], p)[0] == pytest.approx(math.hypot(dx, dy)/16, abs=.01)
    assert pupil_error(base, base, p)[0] == 0

def test_pupils_from_their_own_corners():
    base,p = eyes()
    moved = np.roll(base, (2, 4), (1, 2))
    own = p+[4*2/63, 2*2/63]
    assert pupil_error(base, moved, p, own)[0] < .01 < pupil_error(base, moved, p)[0]

def test_eyes_that_cannot_be_measured():
    base,p = eyes()
    assert np.isnan(pupil_error(base, base, p*.15))            # too small
    assert np.isnan(pupil_error(base, 0*base, p))              # nothing darker than the rest
    assert np.isnan(pupil_error(base, base, p*np.nan))
    one = p.copy()
    one[:, 42:48] = np.nan                                     # the other eye still counts
    assert pupil_error(base, eyes(2)[0], one)[0] == pytest.approx(2/16, abs=.01)
    with pytest.raises(InputError, match='rows of landmarks'): pupil_error(base, base, p.repeat(2, 0))

def test_eye_boxes_ignore_a_blink_and_errors_elsewhere_do_not_count():
    base,p = eyes()
    shut = p.copy()
    shut[0, [37, 38, 40, 41]] = p[0, 36]
    assert np.array_equal(eye_boxes(p), eye_boxes(shut)) and np.allclose(eye_boxes(p, 0)[0, :, 2], 16/63)
    below,all_ = base.copy(),base-5
    below[:, 45:] //= 2
    assert eye_error(base, below, p)[0] == 0 and eye_error(base, all_, p)[0] == pytest.approx(5)
    assert np.isnan(eye_error(base, all_, p+5)[0])


def test_keypoints_that_follow_and_that_do_not():
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    faces = np.tile(np.float32([.1, -.1, .3, .4]), (3, 1))
    def centre(images, faces): return faces[:, None, :2]
    def fixed(images, faces): return torch.zeros(len(images), 2, 2)
    assert keypoint_stability(centre, frames, faces) == pytest.approx(0, abs=1e-4)
    four_of_eight = 50*.1*4/8                                  # in the centre only the four shifts are seen
    assert keypoint_stability(fixed, frames, faces) == pytest.approx(four_of_eight, abs=1e-4)
    assert keypoint_stability(fixed, frames, faces, batch=2) == pytest.approx(2.5, abs=1e-4)
    def corner(images, faces): return torch.full((len(images), 1, 2), .99)
    right = keypoint_stability(corner, frames, faces, [Move(x=.1)])
    assert right == pytest.approx(5, abs=1e-4)
    assert math.isnan(keypoint_stability(corner, frames, faces, [Move(x=-.1)]))     # carried out of the frame

def test_moves_are_seen_by_the_detector():
    "The picture moves as the box does: a bright pixel lands where `move_faces` says"
    im = np.zeros((1, 65, 65, 3), np.uint8)
    im[0, 20:23, 40:43] = 255
    box = torch.tensor([[41/32-1, 21/32-1, .1, .1]])
    seen = []
    def find(images, faces):
        k = images.mean(1).flatten(1).argmax(1)
        seen.append(torch.stack([k%65, k//65], -1)/32-1)
        return seen[-1][:, None]
    keypoint_stability(find, im, box.numpy())
    for k,m in enumerate(MOVES):
        assert (seen[2*k+1]-move_faces(box, move_map(*m))[:, :2]).abs().max() < .08
    with pytest.raises(InputError, match='one box per frame'): keypoint_stability(find, im, np.zeros((2, 4)))
