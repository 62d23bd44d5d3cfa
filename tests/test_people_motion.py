"Motion of a talking head from a seed and from a file: facestudy.people.motion"
import numpy as np
import pytest

from facestudy.core import InputError
from facestudy.people.motion import ANGLES, VISEMES, Motion, sweep, talking_motion
from facestudy.people.head import EXPRESSIONS

PARTS = 'weights','head','gaze','shift'
def track(m, name): return m.weights[:, EXPRESSIONS.index(name)]
def same(a, b, atol=0): return all(np.allclose(getattr(a, o), getattr(b, o), rtol=0, atol=atol) for o in PARTS)


def test_52_expressions():
    assert len(EXPRESSIONS) == len(set(EXPRESSIONS)) == 52
    assert all(set(w) <= set(EXPRESSIONS) for _,w in VISEMES.values())

@pytest.mark.parametrize('seed', range(8))
def test_shapes_and_ranges(seed):
    m = talking_motion(seed, 300)
    assert len(m) == 300 and m.fps == 25
    assert [getattr(m, o).shape for o in PARTS] == [(300, 52), (300, 3), (300, 2), (300, 3)]
    assert all(getattr(m, o).dtype == np.float32 and np.isfinite(getattr(m, o)).all() for o in PARTS)
    assert m.weights.min() >= 0 and m.weights.max() <= 1
    assert abs(m.head[:, 0]).max() <= 35 and abs(m.head[:, 1:]).max() < 25
    assert abs(m.gaze).max() <= 35 and abs(m.shift).max() <= 1.1
    assert np.percentile(track(m, 'jawOpen'), 99) < .5

@pytest.mark.parametrize('seed', range(8))
def test_smooth(seed):
    m = talking_motion(seed, 300)
    lids = [EXPRESSIONS.index('eyeBlinkLeft'), EXPRESSIONS.index('eyeBlinkRight')]
    assert abs(np.diff(np.delete(m.weights, lids, 1), axis=0)).max() < .3
    assert abs(np.diff(m.head, axis=0)).max() < 5 and abs(np.diff(m.shift, axis=0)).max() < .15
    fine = talking_motion(seed, 1200, fps=1000)          # continuous: a small step is a small change
    assert abs(np.diff(fine.weights, axis=0)).max() < .04 and abs(np.diff(fine.gaze, axis=0)).max() < 1.5

def test_the_head_turns_as_far_as_asked():
    def most(turn): return max(abs(talking_motion(i, 750, turn=turn).head[:, 0]).max() for i in range(10))
    assert 25 < most(35) <= 35 and most(10) <= 10 and most(0) == 0

def test_blinks_at_human_rates():
    n,frames,waits = 0,0,[]
    for seed in range(12):
        shut = track(talking_motion(seed, 6000, fps=100), 'eyeBlinkLeft') > .05
        starts = np.flatnonzero(shut[1:] & ~shut[:-1])
        n,frames,waits = n+len(starts),frames+shut.sum(),[*waits, *np.diff(starts)/100]
    assert 10 < n/12 < 25
    assert .15 < frames/100/n < .3
    assert min(waits) > .4 and np.std(waits) > .4*np.mean(waits)

def test_both_eyes_blink_and_close():
    m = talking_motion(1, 3000, fps=100)
    assert (track(m, 'eyeBlinkLeft') == track(m, 'eyeBlinkRight')).all() and track(m, 'eyeBlinkLeft').max() > .9

def test_eyes_hold_the_viewer():
    m = talking_motion(0, 6000)
    far = abs(m.head[:, 0]) > 15
    assert far.any() and (np.sign(m.gaze[far, 0]) == -np.sign(m.head[far, 0])).mean() > .8

def test_the_mouth_rests_and_closes():
    m = talking_motion(2, 3000)
    assert .1 < (track(m, 'jawOpen') < .03).mean() < .7
    pressed = track(m, 'mouthPressLeft') > .2
    assert pressed.any() and track(m, 'jawOpen')[pressed].max() < .15
    assert m.weights[:, [EXPRESSIONS.index(o) for o in ('mouthFrownLeft', 'mouthFrownRight')]].max() == 0

def test_deterministic():
    assert same(talking_motion(5, 60), talking_motion(5, 60))
    assert not same(talking_motion(5, 60), talking_motion(6, 60), .1)

def test_longer_begins_with_shorter_and_rate_only_samples():
    a = talking_motion(5, 400)
    assert same(a[:30], talking_motion(5, 30), 1e-4)
    assert same(a[:100], talking_motion(5, 200, fps=50)[::2], 1e-4)

def test_a_listener():
    m = talking_motion(5, 200, speech=0)
    assert track(m, 'jawOpen').max() == 0 and track(m, 'eyeBlinkLeft').max() > .5

def test_grimaces_come_on_top():
    a,b = talking_motion(5, 200),talking_motion(5, 200, play=1)
    assert (b.weights >= a.weights-1e-6).all() and b.weights.max() <= 1 and (b.weights.max(0) > .3).sum() > 25
    assert np.array_equal(a.head, b.head)

def test_file_round_trip(tmp_path):
    m = talking_motion(3, 77, fps=29.97)
    m.save(tmp_path/'new'/'m.csv')
    back = Motion.load(tmp_path/'new'/'m.csv')
    assert same(m, back) and back.fps == pytest.approx(29.97, abs=.01)
    assert all(getattr(back, o).dtype == np.float32 for o in PARTS)

def test_absent_columns_are_zero(tmp_path):
    (tmp_path/'m.csv').write_text('jawOpen,yaw\n0.5,-10\n')
    m = Motion.load(tmp_path/'m.csv', fps=30)
    assert len(m) == 1 and m.fps == 30 and m.head.tolist() == [[-10, 0, 0]] and m.weights.sum() == .5

@pytest.mark.parametrize('text,says', [
    ('jawOpne\n0\n', "did you mean 'jawOpen'"), ('qq\n0\n', "no column 'qq'"),
    ('jawOpen\n2\n', 'row 1 is 2'), ('jawOpen\n-.1\n', 'from 0 to 1'),
    ('yaw\n0\n400\n', 'yaw in row 2 is 400'), ('yaw\nleft\n', "yaw in row 1 is left"),
    ('yaw\ninf\n', 'must be a number'), ('yaw,pitch\n', 'no frame'),
    ('', 'empty'), ('time,yaw\n0,0\n1,0\n1.1,0\n', 'evenly spaced'), ('time,yaw\n0,0\nx,0\n', 'time in row 2 is x'),
    ('"yaw\n0', 'row')])
def test_bad_files(tmp_path, text, says):
    (tmp_path/'m.csv').write_text(text)
    with pytest.raises(InputError, match=says) as e: Motion.load(tmp_path/'m.csv')
    assert 'm.csv' in str(e.value)

def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match='no such file'): Motion.load(tmp_path/'m.csv')
    (tmp_path/'m.csv').write_bytes(bytes(range(256))*4)
    with pytest.raises(InputError): Motion.load(tmp_path/'m.csv')

@pytest.mark.parametrize('kw', [
    dict(frames=0), dict(fps=0), dict(turn=-1), dict(turn=100), dict(speech=3), dict(play=2)])
def test_bad_numbers(kw):
    with pytest.raises(InputError): talking_motion(0, **kw)

def test_sweep():
    m = sweep(3, 10, yaw=(-1, 1), eyeBlink=1, jawOpen=(0, .5), x=2)
    assert m.head[:, 0].tolist() == [-1, 0, 1]
    assert track(m, 'eyeBlinkRight').tolist() == [1, 1, 1] and track(m, 'jawOpen').tolist() == [0, .25, .5]
    assert m.shift[:, 0].tolist() == [2, 2, 2] and m.fps == 10 and len(m[1:]) == 2
    assert set(m.table()) == {'time', 'yaw', 'eyeBlinkLeft', 'eyeBlinkRight', 'jawOpen', 'x'}
    assert set(ANGLES) >= {'yaw', 'x'}
    with pytest.raises(InputError): sweep(3, smirk=1)
