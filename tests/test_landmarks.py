"Viola-Jones on pictures made here: what is found, what is followed, what is bridged"
import numpy as np
import pytest
from skimage import data

from facestudy.core import InputError
from facestudy.data.landmarks import (LANDMARKS, Track, detect_faces, face_landmarks, follow, iou, jitter,
                                      largest_face, observe, steady, track_face)
from facestudy.media import resize

FACE = data.astronaut()
HEAD = FACE[20:220, 120:320]      # a crop of 200 x 200; Haar's box is about 108 wide


def walk(n=30, step=2, hide=()):
    "The head walks to the right over grey, gone in the frames `hide`"
    out = np.full((n, 200, 200+step*n, 3), 128, np.uint8)
    for i in range(n):
        if i not in hide: out[i, :, step*i:step*i+200] = HEAD
    return out


@pytest.mark.parametrize('size', [100, 200, 700, (300, 200)])
def test_face_at_any_size(size):
    im = resize(HEAD, size)
    h,w = im.shape[:2]
    boxes = detect_faces(im)
    assert boxes.dtype == np.float32 and len(boxes) == 1
    x,y,bw,bh = boxes[0]
    assert x > 0 and y > 0 and x+bw < w and y+bh < h and .4 < bw/w < .7


def test_none_found():
    assert detect_faces(np.zeros((30, 500, 3), np.uint8)).shape == (0, 4)
    with pytest.raises(InputError, match='wall.png: no face was found'):
        largest_face(np.full((100, 100, 3), 99, np.uint8), 'wall.png')


def test_largest_of_two():
    both = np.concatenate([np.pad(resize(HEAD, 140), ((30, 30), (0, 0), (0, 0)), mode='edge'), HEAD], 1)
    box,n = largest_face(both, 'two.png')
    assert n == 2 and box[0] > 140


def test_mirrored_face_gives_the_mirrored_box():
    a,b = detect_faces(HEAD)[0], detect_faces(np.ascontiguousarray(HEAD[:, ::-1]))[0]
    assert iou(a, [200-b[0]-b[2], *b[1:]]) > .8


def test_landmarks_in_order_and_place():
    assert LANDMARKS == ('left eye', 'right eye', 'mouth')
    p,found = face_landmarks(HEAD, detect_faces(HEAD)[0])
    assert found.all() and p.dtype == np.float32
    assert np.abs(p-[[84, 81], [126, 83], [104, 126]]).max() < 5      # pupils and mouth, read off the enlarged photo


def test_landmarks_hidden_are_nan():
    im = HEAD.copy()
    im[95:150] = 128
    p,found = face_landmarks(im, detect_faces(HEAD)[0])
    assert found[:2].all() and not found[2] and np.isnan(p[2]).all()


@pytest.mark.parametrize('box', [(-30, -20, 108, 108), (150, 150, 108, 108), (0, 0, 3, 3)])
def test_landmarks_of_a_box_that_leaves_the_picture(box):
    p,found = face_landmarks(HEAD, box)
    assert p.shape == (3, 2) and np.array_equal(found, np.isfinite(p).all(1))


def test_track_follows_without_lag():
    t = track_face(walk())
    assert t.detected.all() and np.abs(np.diff(t.boxes[:, 0])-2).max() < .8
    at = t.boxes[:, 0]-2*np.arange(30)
    assert np.ptp(at) < 3


def test_gap_is_bridged_with_low_confidence():
    film = walk(hide=range(10, 16))
    raw,t = track_face(film, bridge=False, smooth=False),track_face(film)
    assert np.flatnonzero(~raw.detected).tolist() == list(range(10, 16))
    assert np.isnan(raw.boxes[12]).all() and raw.confidence[12] == 0
    assert np.isfinite(t.boxes).all() and 0 < t.confidence[12] < t.confidence[10] < .5 < t.confidence[9]
    assert np.abs(np.diff(t.boxes[:, 0])-2).max() < 1.5


def test_long_gap_stays_open():
    t = track_face(walk(n=30, hide=range(4, 26)), reach=10)
    assert np.isnan(t.boxes[12]).all() and t.confidence[12] == 0 and np.isfinite(t.boxes[[2, 28]]).all()


def test_smaller_face_nearby_does_not_win():
    "The largest at the start is followed, also when another becomes larger"
    n = 12
    film = np.full((n, 260, 520, 3), 128, np.uint8)
    for i in range(n):
        film[i, :200, :200] = HEAD
        s = 120+12*i
        film[i, :s, 250:250+s] = resize(HEAD, s)
    t = track_face(film)
    assert (t.boxes[:, 0] < 200).all()


def test_smoothing_removes_the_tremble():
    rng = np.random.default_rng(0)
    film = [np.ascontiguousarray(FACE[20+y:220+y, 120+x:320+x]) for x,y in rng.integers(-3, 4, (24, 2))]
    raw = observe(film)
    assert jitter(steady(raw).boxes, raw.boxes[:, 2]) < jitter(raw.boxes, raw.boxes[:, 2])/5


def test_empty_film_and_film_without_face():
    assert len(track_face([])) == 0
    t = track_face(np.zeros((7, 60, 80, 3), np.uint8))
    assert np.isnan(t.boxes).all() and np.isnan(t.points).all() and (t.confidence == 0).all()
    assert np.isnan(t.normalised(60, 80)).all() and np.isnan(jitter(t.boxes, t.boxes[:, 2]))


def test_one_frame(): assert track_face([HEAD]).detected.all()


def test_normalised():
    t = Track(np.float32([[0, 0, 11, 11], [5, 5, 1, 1], [10, 0, 1, 1]]), None, None).normalised(11, 11)
    assert t.dtype == np.float32
    assert np.allclose(t*11, [[0, 0, 11, 11], [0, 0, 1, 1], [10, -10, 1, 1]])


def test_same_every_time():
    a,b = track_face(walk(8)),track_face(walk(8))
    assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.points, b.points, equal_nan=True)


def test_every_third_frame_is_enough_while_the_face_is_there():
    film = walk(12)
    found = [box is not None for _,box,_ in follow(film, each=3)]
    assert found == [i % 3 == 0 for i in range(12)]
    quick,full = track_face(film, each=3, landmarks=False),track_face(film)
    assert np.isnan(quick.points).all() and np.isfinite(quick.boxes).all()
    assert np.abs(quick.boxes-full.boxes).max() < .05*full.boxes[:, 2].mean()


def test_a_lost_face_is_looked_for_in_every_frame():
    blank = np.full_like(HEAD, 128)
    film = [HEAD]*3 + [blank]*4 + [HEAD]*3
    found = [i for i,(_,box,_) in enumerate(follow(film, each=3, every=2)) if box is not None]
    assert found == [0, 7, 9]                                   # lost in 3, found in 7, then every third frame again
