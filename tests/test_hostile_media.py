"Files that somebody damaged, by chance or on purpose: pixels, or one sentence that names the file; never anything else"
import io, warnings
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from skimage import data

from facestudy.core import InputError
from facestudy.media import Video, read_image

FACE = data.astronaut()[:48, 160:224]
PICTURES = 'JPEG', 'PNG', 'WEBP', 'TIFF', 'GIF'
FILMS = 'mp4', 'matroska', 'avi'
QUICK = settings(max_examples=60, derandomize=True, deadline=None, database=None,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])


def picture(kind):
    "A small picture with an EXIF note"
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {} if kind == 'GIF' else {'exif': exif}
    f = io.BytesIO()
    Image.fromarray(FACE).save(f, kind, **more)
    return f.getvalue()


def film(kind):
    "Eight frames and a third of a second of sound"
    f = io.BytesIO()
    with av.open(f, 'w', format=kind) as c:
        s = c.add_stream('libx264', rate=25, options={'threads': '1', 'g': '4'})
        s.height,s.width,s.pix_fmt = *FACE.shape[:2],'yuv420p'
        a = c.add_stream('aac', rate=16000, layout='mono')
        for i in range(8): c.mux(s.encode(av.VideoFrame.from_ndarray(np.roll(FACE, i, 0), format='rgb24')))
        c.mux(s.encode(None))
        sound = av.AudioFrame.from_ndarray(np.full((1, 5120), .1, np.float32), format='fltp', layout='mono')
        sound.sample_rate,sound.pts = 16000,0
        c.mux(a.encode(sound))
        c.mux(a.encode(None))
    return f.getvalue()


WHOLE = {kind: picture(kind) for kind in PICTURES} | {kind: film(kind) for kind in FILMS}

DAMAGE = st.fixed_dictionaries({
    'bytes': st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12), # place (share of the file), value
    'front': st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=4), # headers are in front
    'length': st.one_of(st.just(1.), st.floats(.01, 1)),                            # share that is left
    'moved': st.booleans()})                                                         # the halves change places


def damaged(content, how):
    "Bytes of a file after some damage"
    b = bytearray(content)
    for at,v in how['bytes']: b[int(at*(len(b)-1))] = v
    for at,v in how['front']: b[at%len(b)] = v
    if how['moved']: b = b[len(b)//2:]+b[:len(b)//2]
    return bytes(b[:max(1, int(how['length']*len(b)))])


def said_and_read(path, read):
    "What `read` gives, or None after an `InputError`; whatever is said names the file"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        try: got = read(path)
        except InputError as e:
            assert str(path) in str(e) and '\n' not in str(e) and str(e).endswith('.')
            got = None
    for w in said: assert str(path) in str(w.message), w
    return got


def checked_frames(path):
    "The size of a film's frames, all of them checked"
    v = Video(path)
    n = 0
    for n,im in enumerate(v, 1):
        if n == 1 or n == 50: assert im.shape == (*v.size, 3) and im.dtype == np.uint8
    return v.size if n else None


@pytest.mark.parametrize('kind', PICTURES)
@QUICK
@given(how=DAMAGE)
def test_pictures(tmp_path, kind, how):
    path = tmp_path/'a.jpg'
    path.write_bytes(damaged(WHOLE[kind], how))
    im = said_and_read(path, read_image)
    assert im is None or (im.dtype == np.uint8 and im.ndim == 3 and im.shape[2] == 3 and im.size)


@pytest.mark.parametrize('kind', FILMS)
@QUICK
@given(how=DAMAGE)
def test_films(tmp_path, kind, how):
    path = tmp_path/'a.mp4'
    path.write_bytes(damaged(WHOLE[kind], how))
    size = said_and_read(path, checked_frames)
    assert size is None or min(size) > 0


@pytest.mark.parametrize('read', [read_image, Video])
@QUICK
@given(content=st.binary(min_size=1, max_size=400))
def test_anything(tmp_path, read, content):
    path = tmp_path/'a.png'
    path.write_bytes(content)
    said_and_read(path, read)


@pytest.mark.parametrize('kind', PICTURES)
def test_whole_pictures(tmp_path, kind):
    path = tmp_path/'a.jpg'
    path.write_bytes(WHOLE[kind])
    turned = FACE if kind == 'GIF' else np.rot90(FACE, -1)          # the EXIF note says: turn right
    assert np.abs(said_and_read(path, read_image).astype(int)-turned).mean() < 12


@pytest.mark.parametrize('kind', FILMS)
def test_whole_films(tmp_path, kind):
    path = tmp_path/'a.mp4'
    path.write_bytes(WHOLE[kind])
    assert said_and_read(path, checked_frames) == FACE.shape[:2] and Video(path).has_audio
