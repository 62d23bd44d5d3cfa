"Viola-Jones against exact landmarks: facestudy.people.viola_jones"
import numpy as np
import pytest

from facestudy.core import InputError
from facestudy.people.look import person
from facestudy.people.viola_jones import (box_is_right, landmark_centres, score_detection, score_jitter,
                                          score_landmarks, still_talk, yaw_sweep)

@pytest.fixture(scope='module')
def who():
    "One rendered person; skipped only where the package index is out of reach"
    try: return person(7)
    except InputError as e:
        if 'package index' not in str(e): raise
        pytest.skip(f'no head on this machine: {e}')

def test_centres():
    x = np.zeros((2, 68, 2))
    x[1, 36:42],x[1, 42:48],x[1, 48:] = 1,2,3
    assert landmark_centres(x).shape == (2, 3, 2) and landmark_centres(x)[1].tolist() == [[1, 1], [2, 2], [3, 3]]

@pytest.mark.parametrize('box,right', [
    ((12, 15, 76, 76), True), ((0, 5, 100, 100), True), ((35, 15, 76, 76), False), ((-60, -60, 220, 220), False),
    ((28, 38, 44, 43), True), ((np.nan,)*4, False)])
def test_which_boxes_are_right(box, right):
    c = np.array([[30, 40], [70, 40], [50, 80.]])
    assert box_is_right(np.float32(box), c) == right
    assert box_is_right(np.float32([box]*3), np.stack([c]*3)).tolist() == [right]*3

def test_detection(who):
    yaws = (-80, 0, 10)
    frames,centres = yaw_sweep(who, yaws, 96)
    assert frames.shape == (3, 96, 96, 3) and centres.shape == (3, 3, 2)
    assert (centres[1:, 0, 0] < centres[1:, 1, 0]).all() and (centres[1:, 2, 1] > centres[1:, :2, 1].max(1)).all()
    rows = score_detection([who], yaws, 96)
    assert list(rows.yaw) == list(yaws) and rows.found[rows.yaw.abs() < 20].all()
    assert not rows.found[0]                                                      # a pure profile hides an eye

def test_landmark_errors(who):
    rows = score_landmarks([who], frames=6, size=96, turn=5)
    assert len(rows) == 2*6*3 and rows.error.notna().mean() > .7 and rows.error.median() < .2

def test_jitter_needs_no_truth(who):
    film = still_talk(who, 12, 96)
    assert film.shape == (12, 96, 96, 3) and np.array_equal(film, still_talk(who, 12, 96))
    rows = score_jitter({'a': film}).set_index('kind')
    assert rows.box['steady'] < rows.box['raw'] < 10
