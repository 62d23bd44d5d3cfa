"Exact truth of rendered people: facestudy.people.truth"
from dataclasses import fields

import cv2
import numpy as np
import pytest

from facestudy.core import InputError
from facestudy.people.head import REGIONS, head_asset
from facestudy.people.look import person
from facestudy.people.motion import sweep, talking_motion
from facestudy.people.raster import project, rasterise
from facestudy.people.render import render
from facestudy.people.scenes import scene
from facestudy.people.shading import FRAME
from facestudy.people.truth import (SLACK, Truth, apart, canonical_of, find_landmarks, flow, is_inside, is_solid,
                                    labels_of, landmarks_of, look_at, pull_back, rigid, truth_of)

@pytest.fixture(scope='module')
def people():
    "Two people; skipped only where the package index is out of reach"
    try: return {s: person(s) for s in (3, 6)}
    except InputError as e:
        if 'package' not in str(e): raise
        pytest.skip(f'no head on this machine: {e}')

def skull(head):
    "Corners that only the head's own motion moves"
    still = (head.skin == 1) & (np.abs(head.expressions).max((0, 2)) < 1e-4)
    still[head.eyes.ravel()] = False
    return still

def face(labels): return labels >= REGIONS.index('face')


@pytest.mark.parametrize('seed', [3, 6])
def test_shapes_and_types(people, seed):
    t = truth_of(people[seed], scene(0), talking_motion(seed, frames=3), 48)
    assert len(t) == 3 and t.landmarks.shape == (3, 68, 2) and t.visible.dtype == bool and t.labels.dtype == np.uint8
    assert t.gaze.shape == t.eyes.shape == (3, 2, 3) and t.head.shape == (3, 3, 3) and t.position.shape == (3, 3)
    assert t.depth.shape == (3, 48, 48) and t.canonical.shape == (3, 48, 48, 3)
    for k in ('landmarks', 'gaze', 'eyes', 'head', 'position', 'depth', 'canonical'):
        assert getattr(t, k).dtype == np.float32, k
    assert np.allclose(np.linalg.norm(t.gaze, axis=-1), 1, atol=1e-5)

def test_nothing_left_to_chance(people):
    m = talking_motion(3, frames=4)
    a,b = truth_of(people[3], scene(3), m, 40),truth_of(people[3], None, m, 40)
    for f in fields(Truth):
        assert np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=f.name == 'canonical')
    c = truth_of(people[3], None, m, 40, 1, 3, dense=False)
    assert np.array_equal(c.landmarks, a.landmarks[1:3]) and np.array_equal(c.labels, a.labels[1:3])
    assert c.depth is None and c.canonical is None

@pytest.mark.parametrize('seed', [3, 6])
def test_labels_partition_the_picture(people, seed):
    t = truth_of(people[seed], None, talking_motion(2, frames=4), 96)
    assert t.labels.max() < len(REGIONS) and np.array_equal(t.labels == 0, np.isinf(t.depth))
    assert sum((t.labels == k).sum() for k in range(len(REGIONS))) == t.labels.size
    for k in ('background', 'body', 'hair', 'face', 'mouth', 'eyes'): assert (t.labels == REGIONS.index(k)).any(), k
    for points,k in (((37, 38, 40, 41, 43, 44, 46, 47), 'eyes'), ((62, 66), 'mouth'), ((29, 30), 'face')):
        i = np.round(t.landmarks[:, list(points)]).astype(int)
        found = t.labels[np.arange(4)[:, None], i[..., 1], i[..., 0]] == REGIONS.index(k)
        assert found[t.visible[:, list(points)]].mean() > .8, k

def test_closed_eyes_keep_their_region(people):
    open_,shut = (truth_of(people[3], None, sweep(1, eyeBlink=x), 96).labels == REGIONS.index('eyes') for x in (0, 1))
    assert (open_ & shut).sum() > .7*open_.sum()

@pytest.mark.parametrize('seed,motion', [
    (3, dict(yaw=(-35, 35))), (3, dict(pitch=(-15, 15), jawOpen=(0, .6))), (6, dict(yaw=(0, 50), roll=(0, 15)))])
def test_visibility_is_the_z_buffer(people, seed, motion):
    who,m,S,same = people[seed],sweep(5, **motion),1024,[]
    for t in range(5):
        _,seen = landmarks_of(look_at(who, m, t, 64), 64)
        s = look_at(who, m, t, S)
        depth = rasterise(s.vertices, s.triangles[is_solid(s)], S, two_sided=s.two_sided[is_solid(s)]).depth
        at,z = project(s.vertices[head_asset().landmarks], S)
        i = np.round(at).astype(int).clip(0, S-1)
        same.append(seen == (is_inside(at, S) & (z <= depth[i[:, 1], i[:, 0]]+SLACK)))
    assert np.mean(same) > .97

def test_far_side_disappears(people):
    # turned to the viewer's right, the right side is far
    for yaw,far,near in ((45, (12, 13, 14, 15), (2, 3, 4)), (-45, (1, 2, 3, 4), (12, 13, 14))):
        seen = truth_of(people[6], None, sweep(1, yaw=yaw), 64).visible[0]
        assert not seen[list(far)].any() and seen[list(near)].all()

def test_outside_the_picture_is_hidden(people):
    t = truth_of(people[3], None, sweep(1, x=20), 64)
    out = ((t.landmarks < -.5) | (t.landmarks > 63.5)).any(-1)
    assert out.any() and not t.visible[out].any()

@pytest.mark.parametrize('size,limit', [(64, .8), (128, 1.), (256, 1.4)])
def test_landmarks_read_back(people, size, limit):
    d = []
    for who in people.values():
        t = truth_of(who, None, talking_motion(1, frames=9)[::4], size)
        off = np.stack([np.linalg.norm(find_landmarks(c)-at, axis=1) for c,at in zip(t.canonical, t.landmarks)])
        d.append(off[t.visible])
    assert np.mean(np.concatenate(d)) < limit

def test_landmarks_do_not_depend_on_the_size(people):
    m = sweep(1, yaw=10, jawOpen=.3)
    a,b = (truth_of(people[3], None, m, s).landmarks[0] for s in (64, 192))
    assert np.allclose((a+.5)*3, b+.5, atol=1e-3)

def test_pose_and_gaze_read_back(people):
    head,m,who = head_asset(),talking_motion(5, frames=5),people[6]
    t = truth_of(who, None, m, 16)
    still = skull(head)
    for k in range(5):
        v = look_at(who, m, k, 8).posed.vertices
        r,shift = rigid(who.shape.vertices[still], v[still])
        assert apart(r.T, t.head[k].T).max() < .005 and np.abs(shift-t.position[k]).max() < .005
        for e in (0, 1):
            assert apart(rigid(who.shape.vertices[head.eyes[e]], v[head.eyes[e]])[0][:, 2], t.gaze[k, e]) < .01
            assert np.abs(v[head.eyes[e]].mean(0)-t.eyes[k, e]).max() < .5   # sight starts in the eye

def test_rigid_refuses_mirrors():
    a = np.random.default_rng(0).normal(size=(20, 3))
    assert np.isclose(np.linalg.det(rigid(a, a*[-1, 1, 1])[0]), 1)


@pytest.mark.parametrize('seed,a,b', [(3, 0, 2), (3, 5, 12), (6, 10, 18)])
def test_flow_warps_one_frame_onto_the_next(people, seed, a, b):
    who,where,m,S = people[seed],scene(seed),talking_motion(4, frames=40),128
    fa,fb = (render(who, where, m, S, t, t+1)[0].astype(float) for t in (a, b))
    f,seen = flow(who, where, m, a, b, S)
    on = face(truth_of(who, where, m, S, a, a+1).labels[0]) & seen
    before,after = (np.abs(o-fa)[on].mean() for o in (fb, pull_back(fb, f)))
    assert after < 5 and (after < .6*before or before < 2)                                            # 8-bit levels
    ca,cb = (canonical_of(who, look_at(who, m, t, S)) for t in (a, b))
    gap = np.linalg.norm((pull_back(cb, f)-ca)*np.ptp(head_asset().vertices, axis=0), axis=-1)[on]
    gap = gap[np.isfinite(gap)]
    assert np.median(gap) < .03 and np.quantile(gap, .9) < .3         # cm on the mean head

def test_flow_of_landmarks_is_their_motion(people):
    who,m,S = people[6],talking_motion(7, frames=20),192
    t = truth_of(who, None, m, S)
    f,seen = flow(who, scene(0), m, 2, 9, S)
    at = t.landmarks[2]
    i = np.round(at).astype(int)
    use = t.visible[2] & t.visible[9] & np.isin(np.arange(68), (*range(17, 48), 51, 57)) & seen[i[:, 1], i[:, 0]]
    d = np.linalg.norm(f[i[:, 1], i[:, 0]]-(t.landmarks[9]-at), axis=1)[use]
    assert use.sum() > 20 and np.median(d) < .15 and np.quantile(d, .9) < 1.

def test_flow_of_nothing_and_back(people):
    who,m,S = people[6],talking_motion(2, frames=12),96
    f,seen = flow(who, scene(1), m, 3, 3, S)
    assert np.abs(f).max() < .01 and seen.mean() > .99
    f,seen = flow(who, scene(1), m, 3, 8, S)
    g,_ = flow(who, scene(1), m, 8, 3, S)
    on = face(labels_of(look_at(who, m, 3, S))) & seen
    assert np.median(np.linalg.norm(f+pull_back(g, f), axis=-1)[on]) < .05

def test_flow_of_a_moving_background(people):
    where = next(o for o in map(scene, range(30)) if o.drift[0] > .03 and o.canvas.std((0, 1)).max() > .08)
    who,m,S = people[3],sweep(26),96
    f,seen = flow(who, where, m, 0, 25, S)
    bare = truth_of(who, where, m, S, 0, 1).labels[0] == 0
    assert np.allclose(f[bare], S*(where.offset(1.)-where.offset(0.)), atol=1e-4)
    a,b = (render(who, where, m, S, t, t+1)[0].astype(float) for t in (0, 25))
    on = cv2.erode((bare & seen).astype(np.uint8), np.ones((3, 3))) > 0 # not the outline, where hair mixes in
    assert np.abs(pull_back(b, f)-a)[on].mean() < 3 and np.abs(pull_back(b, f)-a)[on].mean() < np.abs(b-a)[on].mean()

def test_what_a_lid_hides_is_hidden(people):
    m = sweep(2, eyeBlink=(0, 1))
    _,seen = flow(people[3], scene(3), m, 0, 1, 128)
    s = look_at(people[3], m, 0, 128)
    ball = np.isin(s.triangles, head_asset().eyes).all(1)
    on = (s.buffers.triangle >= 0) & ball[np.maximum(s.buffers.triangle, 0)]
    assert on.sum() > 30 and seen[on].mean() < .15

def test_cross_identity_pairs_share_motion_exactly(people):
    m = talking_motion(9, frames=6)
    ts = [truth_of(o, scene(s), m, 32, dense=False) for s,o in people.items()]
    for t in ts[1:]:
        for k in ('gaze', 'head', 'position'): assert np.array_equal(getattr(t, k), getattr(ts[0], k)), k
        assert np.abs(t.landmarks-ts[0].landmarks).max() > .5


# --- glasses

@pytest.fixture(scope='module')
def wearer(people):
    "The third person with glasses"
    return person(3, 'square')

def on_frame(who, sight):
    "Pixels that show the frame"
    t = sight.buffers.triangle
    return (t >= 0) & (who.look.mesh.material[np.maximum(t, 0)] == FRAME)

def test_a_frame_hides_landmarks(people, wearer):
    m,S,expected,got = sweep(7, yaw=(-40, 40), pitch=(8, -8)),1024,[],[]
    for t in range(7):
        at,seen = landmarks_of(look_at(people[3], m, t, S), S)
        worn,now = landmarks_of(look_at(wearer, m, t, S), S)
        s = look_at(wearer, m, t, S)
        mine = wearer.look.mesh.material == FRAME
        i = np.round(at).astype(int).clip(0, S-1)
        depth = rasterise(s.vertices, s.triangles[mine], S, two_sided=True).depth[i[:, 1], i[:, 0]]
        z = project(s.vertices[head_asset().landmarks], S)[1]
        assert np.array_equal(worn, at) and not (now & ~seen).any()
        expected.append(seen & (depth >= z-SLACK))
        got.append(now)
    lost = [(a & ~b).sum() for a,b in zip(expected, got)]
    assert np.mean(np.equal(expected, got)) > .99 and sum(lost) < 4

def test_a_frame_is_face_without_a_place_on_it(wearer):
    m = sweep(1, yaw=25)
    s = look_at(wearer, m, 0, 96)
    on = on_frame(wearer, s)
    assert on.sum() > 50 and (labels_of(s)[on] == REGIONS.index('face')).all()
    assert np.isnan(canonical_of(wearer, s)[on]).all()

def test_flow_knows_what_a_frame_hides(people, wearer):
    "Skin that goes behind the frame is not visible there, and the frame moves with the head"
    m,S = sweep(2, yaw=(0, 30)),256
    a,b = (look_at(wearer, m, t, S) for t in (0, 1))
    f,seen = flow(wearer, scene(3), m, 0, 1, S)
    bare = flow(people[3], scene(3), m, 0, 1, S)[1]
    to = np.round(f+np.stack(np.meshgrid(np.arange(S), np.arange(S)), -1)).astype(int).clip(0, S-1)
    on,inner = on_frame(wearer, a),cv2.erode(on_frame(wearer, b).astype(np.uint8), np.ones((3, 3)))
    lands = inner[to[..., 1], to[..., 0]] > 0                     # not the outline, beside which skin is still seen
    behind = face(labels_of(a)) & ~on & lands & bare
    assert behind.sum() > 50 and seen[behind].mean() < .05
    assert seen[on].mean() > .7
