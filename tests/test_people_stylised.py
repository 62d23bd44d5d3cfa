"Cartoons and pencil drawings: facestudy.people.stylised"
import cv2
import numpy as np
import pytest
from skimage import data

from facestudy.core import InputError
from facestudy.people.stylised import STYLES, cartoon, drawn, found_share, pencil

FACE = np.ascontiguousarray(data.astronaut()[0:224, 112:336])

@pytest.mark.parametrize('style', STYLES)
@pytest.mark.parametrize('size', [64, 96, 256])
def test_a_film_keeps_its_shape(style, size):
    film = np.stack([cv2.resize(FACE, (size, size))]*2)
    out = drawn(film, style)
    assert out.shape == film.shape and out.dtype == np.uint8 and np.array_equal(out[0], out[1]) and out.std() > 10
    assert drawn(film, style, (40, 30)).shape == (2, 40, 30, 3)

@pytest.mark.parametrize('style', STYLES)
def test_frames_are_left_alone(style):
    before = FACE.copy()
    STYLES[style](FACE)
    assert np.array_equal(FACE, before)
    assert np.array_equal(STYLES[style](FACE[:, ::-1]), STYLES[style](FACE[:, ::-1].copy()))     # a view will do

def test_number_of_threads_does_not_matter():
    was = cv2.getNumThreads()
    try:
        out = []
        for n in (1, 2):
            cv2.setNumThreads(n)
            out.append([f(FACE) for f in STYLES.values()])
    finally: cv2.setNumThreads(was)
    assert all(np.array_equal(a, b) for a,b in zip(*out))

def test_cartoon_is_flat_and_outlined():
    def texture(im): return np.abs(np.diff(im.astype(int), axis=1)).sum(-1)
    assert (texture(cartoon(FACE, lines=0)) == 0).mean() > 2*(texture(FACE) == 0).mean()
    square = np.full((128, 128, 3), 200, np.uint8)
    square[40:90, 40:90] = 150
    inked = (cartoon(square, lines=1) < cartoon(square, lines=0)).any(-1)
    assert inked[42:88, 40].all()                                                  # the border
    assert not inked[60:70, 60:70].any() and not inked[:20].any()                  # and nothing else

def test_pencil_is_grey():
    out = pencil(FACE)
    assert (out == out[..., :1]).all() and out.mean() > FACE.mean()

def test_people_are_told_what_is_wrong():
    for style,film in (('oil', FACE[None]), ('pencil', FACE)):
        with pytest.raises(InputError): drawn(film, style)
    with pytest.raises(InputError): pencil(FACE/255)
    with pytest.raises(InputError): cartoon(FACE[..., 0])
    for kw in (dict(lines=2), dict(colours=1)):
        with pytest.raises(InputError): cartoon(FACE, **kw)

def test_a_find_must_be_right():
    centres = np.array([[[90, 88], [135, 88], [112, 140]]])                 # the astronaut's eyes and mouth, by eye
    assert found_share(FACE[None], centres) == 1
    assert found_share(FACE[None], centres+300) == 0 and found_share(0*FACE[None], centres) == 0
