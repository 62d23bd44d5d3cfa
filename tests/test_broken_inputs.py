"What people and machines do to commands: each fault that was once found, as it was found"
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import save

from facestudy import cli
from facestudy.core import InputError, load_tensors, save_tensors
from facestudy.data.clips import build_store, find_videos, write_clip
from facestudy.media import Video
from facestudy.method.superres import SuperResolution
from facestudy.nets import load_net, net_meta, save_net
from test_animate import made                                               # a fixture
from test_cli import animate, rebuild, run, weights                         # `weights` is a fixture
from test_training import RELEASED, trainer

NEEDS_FULL = pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')

def refused(result, *words):
    "Did a command end in one sentence with exit code 1?"
    code,out,err = result
    assert (code, out, len(err)) == (1, '', 1) and err[0].startswith('facestudy: '), result
    for word in words: assert word in err[0], err[0]

def full_disk(file):
    "Whoever writes this file finds the disk full: the kernel itself says so"
    file.parent.mkdir(parents=True, exist_ok=True)
    (file.parent/f'.{file.stem}.{os.getpid()}.part{file.suffix}').symlink_to('/dev/full')

def in_a_process(code, **env):
    "Python in a process of its own, one thread"
    return subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE, text=True,
                            env=os.environ | {'OMP_NUM_THREADS': '1', 'FACESTUDY_PROGRESS': '0'} | env)

def wait_for(what, seconds=60):
    "Wait until something is true"
    end = time.time()+seconds
    while not what(): assert time.time() < end and not time.sleep(.02), 'it never came true'

# D1

LIMITS = '--size', 64, '--min-size', 40, '--min-frames', 4, '--workers', 1

def test_a_folder_of_which_everything_is_kept(capsys, made, tmp_path):
    (tmp_path/'in').mkdir()
    shutil.copy(made/'silent.mp4', tmp_path/'in'/'good.mp4')
    code,out,err = run(capsys, 'prepare', tmp_path/'in', tmp_path/'out', *LIMITS)
    assert (code, err) == (0, []) and out.strip() == f'{tmp_path/"out"}: 1 clips kept, 0 rejected'

# D2

@NEEDS_FULL
def test_no_room_for_weights(tmp_path):
    full_disk(tmp_path/'w.safetensors')
    with pytest.raises(InputError, match='w.safetensors could not be written: the disk is full'):
        save_net(tmp_path/'w.safetensors', SuperResolution(16), 'superres')
    assert os.listdir(tmp_path) == []

@NEEDS_FULL
def test_no_room_for_frames(tmp_path):
    full_disk(tmp_path/'a.npy')
    with pytest.raises(InputError, match='a.npy could not be written: the disk is full'):
        write_clip(tmp_path, {'name': 'a'}, {'frames': np.zeros((9, 64, 64, 3), np.uint8)}, None)
    assert os.listdir(tmp_path) == []

def test_no_place_for_a_cache(capsys, tmp_path, monkeypatch):
    (tmp_path/'file').write_text('x')
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path/'file'/'cache'))
    refused(run(capsys, 'data'), 'could not be written: a part of the path is a file')

@NEEDS_FULL
def test_a_training_tells_of_a_full_disk_before_it_begins(tmp_path):
    full_disk(tmp_path/'state.safetensors')
    t = trainer(steps=2)
    with pytest.raises(InputError, match='the disk is full'): t.run(tmp_path/'state.safetensors')
    assert t.step == 0

# D3

@pytest.mark.parametrize('kind', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_waits_for_the_end_of_the_step(tmp_path, kind):
    "Long before the first periodic save, the steps that were finished are on disk"
    whole,cut,resumed = (trainer(steps=4) for _ in range(3))
    whole.run()
    losses = cut.system.losses
    def struck(player, pairs):
        if (cut.step, player) == (2, 'generator'): os.kill(os.getpid(), kind)       # once: a second one would not wait
        return losses(player, pairs)
    cut.system.losses = struck
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)      # a shell's background jobs ignore Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt), cli.stoppable(): cut.run(tmp_path/'state.safetensors')
    finally: signal.signal(signal.SIGINT, ours)
    assert load_tensors(tmp_path/'state.safetensors')[1]['step'] == 3
    resumed.run(tmp_path/'state.safetensors')
    for k,v in whole.system.state_dict().items(): assert torch.equal(v, resumed.system.state_dict()[k])

# D4

@pytest.fixture
def filmed(made, tmp_path): return build_store(made/'clips', tmp_path/'store', 32, workers=1)

def damage(file, how):
    "Zero a file's second half, cut it, or empty it"
    whole = file.read_bytes()
    half = len(whole)//2
    file.write_bytes({'zeroed': whole[:half]+bytes(len(whole)-half), 'cut': whole[:-99], 'empty': b''}[how])

@pytest.mark.parametrize('how', ['zeroed', 'cut', 'empty'])
@pytest.mark.parametrize('end', ['npy', 'faces.npz'])
def test_a_damaged_clip_is_noticed_and_made_again(filmed, made, how, end):
    frames,faces = np.array(filmed.frames('c0')),np.array(filmed.faces('c0'))
    damage(filmed.folder/f'c0.{end}', how)
    again = type(filmed)(filmed.folder)
    with pytest.raises(InputError, match='c0: this clip was changed or damaged'): again.frames('c0'),again.faces('c0')
    healed = build_store(made/'clips', filmed.folder, 32, workers=1)
    assert np.array_equal(healed.frames('c0'), frames) and np.array_equal(healed.faces('c0'), faces, equal_nan=True)
    assert healed.digest == filmed.digest

def test_edited_rows_are_made_again(capsys, made, weights, tmp_path):
    rebuild(capsys, weights, made/'clips', tmp_path/'r')
    rows = tmp_path/'r'/'rows.csv'
    first = rows.read_text()
    stamps = {f.name: f.stat().st_mtime_ns for f in (tmp_path/'r').glob('*.mp4')}
    rows.write_text(first.replace('c0,1,', 'c0,1,9'))
    assert rebuild(capsys, weights, made/'clips', tmp_path/'r')[0] == 0 and rows.read_text() == first
    now = {f.name: f.stat().st_mtime_ns for f in (tmp_path/'r').glob('*.mp4')}
    assert now['c1.mp4'] == stamps['c1.mp4'] and now['c0.mp4'] > stamps['c0.mp4']    # only what was touched

# D5

def test_weights_that_are_no_numbers_are_neither_stored_nor_used(capsys, made, weights, tmp_path):
    net = SuperResolution(4)
    with torch.no_grad(): next(net.parameters())[0] = torch.nan
    file = tmp_path/'n.safetensors'
    with pytest.raises(InputError, match='no longer finite numbers'): save_net(file, net, 'superres')
    assert not file.exists()
    save_net(file, SuperResolution(4), 'superres')
    save_tensors(file, net.state_dict(), net_meta(file))
    result = animate(capsys, made, weights, tmp_path/'o.mp4', superres=file, crop=True)
    refused(result, 'n.safetensors', 'no finite numbers')
    assert not (tmp_path/'o.mp4').exists()

def test_a_training_that_diverges_leaves_nothing_finished(tmp_path):
    t = trainer(steps=3)
    losses = t.system.losses
    def exploding(player, pairs):
        factor = 1. if t.step < 2 else torch.inf
        return {k: v*factor for k,v in losses(player, pairs).items()}
    t.system.losses = exploding
    with pytest.raises(InputError, match='the loss became'): t.run(tmp_path/'state.safetensors', save_every=0)
    assert load_tensors(tmp_path/'state.safetensors')[1]['step'] == 2
    last = trainer(steps=1)
    moved = last.move
    def burst(player, pairs):
        terms = moved(player, pairs)
        with torch.no_grad(): next(last.system.generator.parameters()).fill_(torch.nan)
        return terms
    last.move = burst
    with pytest.raises(InputError, match='it draws values that are no numbers'): last.run()

def test_the_cards_vouch_for_released_weights(tmp_path):
    "They are older than the digest in the header; every one has a card, and one flipped bit is noticed"
    assert all(f.with_suffix('.md').exists() for f in RELEASED)
    file = next(f for f in RELEASED if f.stem == 'landmarker')
    for f in (file, file.with_suffix('.md')): shutil.copy(f, tmp_path)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    (tmp_path/file.name).write_bytes(data)
    with pytest.raises(InputError, match='its SHA-256 is not the one on its card'): load_net(tmp_path/file.name)

# D6

@pytest.fixture
def odd(made, tmp_path):
    "A folder with one good video, and all that a folder may hold besides"
    d = tmp_path/'odd'
    (d/'d.mp4').mkdir(parents=True)
    (d/'loop.mp4').symlink_to('loop.mp4')
    (d/'gone.mp4').symlink_to('nowhere.mp4')
    shutil.copy(made/'silent.mp4', d/'good.mp4')
    (d/os.fsdecode(b'caf\xe9.mp4')).write_bytes(b'no film')
    return d

def test_one_bad_file_spoils_no_folder(capsys, odd, weights, tmp_path):
    code,out,_ = run(capsys, 'prepare', odd, tmp_path/'out', *LIMITS)
    assert code == 0 and '1 clips kept, 1 rejected' in out
    assert set(pd.read_csv(tmp_path/'out'/'manifest.csv').source) == {'good.mp4', 'caf\\udce9.mp4'}
    code,out,err = rebuild(capsys, weights, odd, tmp_path/'r')
    assert code == 1 and '1 clips, PSNR' in out and err[-1] == 'facestudy: 1 of 2 clips could not be used.'
    assert set(find_videos(odd)) == {'good', 'caf\\udce9'}
    store = build_store(odd, tmp_path/'s', 32, workers=1)
    assert list(store.table.name) == ['good'] and list(store.rejected.name) == ['caf\\udce9']

# D8

IDS = [('v', '../../evil'), ('v', '/tmp/evil'), ('../v', 'p'), ('v', 'a\\b'), ('', '')]

@pytest.mark.parametrize('video,person', IDS)
def test_a_list_cannot_lead_elsewhere(capsys, made, tmp_path, video, person):
    (tmp_path/'in').mkdir()
    shutil.copy(made/'silent.mp4', tmp_path/'in'/'v.mp4')
    (tmp_path/'list.csv').write_text('video_id,start,end,bbox,fps,width,height,partition,person_id\n'
                                     f'{video},0,5,0-0-99-99,12,240,240,train,{person}\n')
    result = run(capsys, 'prepare', tmp_path/'in', tmp_path/'x'/'out', '--metadata', tmp_path/'list.csv', *LIMITS)
    refused(result, 'list.csv', 'row 2', 'cannot be a file name')
    assert sorted(os.listdir(tmp_path)) == ['in', 'list.csv']

# D9

TRAIN = ('--steps -5', '--steps 0', '--set steps=nan', '--set steps=inf', '--set lr=nan', '--set lr=abc', '--set lr=-1',
         '--set lr=1e9', '--set batch=0', '--set weight_decay=-1', '--set speed=3', '--seed -1')

@pytest.mark.parametrize('more', TRAIN)
def test_numbers_of_a_training(capsys, made, tmp_path, monkeypatch, more):
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'runs'))
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path/'cache'))
    usual = '--profile', 'smoke', '--clips', made/'clips', '--device', 'cpu'
    option,value = more.split()
    field = value.partition('=')[0] if option == '--set' else option.strip('-')
    refused(run(capsys, 'train', 'suggested_shared', *usual, option, value), field)
    assert not (tmp_path/'runs').exists()

OTHERS = ('train superres --set lr=1', 'train superres --steps 0', 'train superres --seed -1',
          'train landmarker --steps -1', 'train landmarker --seed -1', 'release --systems nope', 'bench --systems nope',
          'bench --profiles nope', 'parametric OUT --identities -3', 'parametric OUT --size 0',
          'parametric OUT --workers -1', 'parametric OUT --frames 1', 'parametric OUT --seed -1',
          'ablation --workers 0',
          'prepare IN OUT --size 0', 'prepare IN OUT --size 17', 'prepare IN OUT --margin nan',
          'prepare IN OUT --workers -1', 'prepare IN OUT --min-frames 0', 'prepare IN OUT --min-iou 2')

@pytest.mark.parametrize('argv', OTHERS)
def test_numbers_and_names_of_other_commands(capsys, made, tmp_path, argv):
    "Refused before any work"
    places = {'IN': made/'clips', 'OUT': tmp_path/'out'}
    start = time.time()
    refused(run(capsys, *(places.get(o, o) for o in argv.split())))
    assert time.time()-start < 10 and os.listdir(tmp_path) == []

def test_the_size_that_is_told_is_the_size_that_is_written(capsys, made, weights, tmp_path):
    for more in ({'crop': True, 'size': 17}, {'size': 99}):
        out = animate(capsys, made, weights, tmp_path/'o.mp4', **more)[1]
        h,w = Video(tmp_path/'o.mp4').size
        assert f'of {w}x{h} px' in out

# D11

@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='needs /proc')
def test_ctrl_c_while_loading_is_one_line(made, weights, tmp_path):
    files = {'source': made/'photo.png', 'driving': made/'silent.mp4', 'out': tmp_path/'o.mp4', 'system': weights}
    argv = ['animate', *(f'--{k}={v}' for k,v in files.items())]
    p = in_a_process('import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n'
                     f'import sys; from facestudy import cli; sys.exit(cli.main({argv!r}))')
    wait_for(lambda: 'libtorch' in Path(f'/proc/{p.pid}/maps').read_text())
    p.send_signal(signal.SIGINT)
    err = p.communicate(timeout=60)[1].strip().splitlines()
    assert p.returncode == 130 and len(err) == 1 and err[0].startswith('facestudy: stopped'), err
    assert not (tmp_path/'o.mp4').exists()

# D12

def test_workers_end_with_a_parent_that_was_killed():
    code = ('import time; from facestudy.core import in_processes\n'
            "if __name__ == '__main__': list(in_processes(time.sleep, [(600,), (600,)], 2))")
    p = in_a_process(code)
    def children():
        found = psutil.Process(p.pid).children(recursive=True)
        return [o for o in found if 'spawn_main' in ' '.join(o.cmdline())]
    wait_for(lambda: len(children()) == 2)
    mine = children()
    wait_for(lambda: all(o.num_threads() > 1 for o in mine))                   # each watches its parent
    p.kill()
    p.wait()
    def alive(o): return o.is_running() and o.status() != psutil.STATUS_ZOMBIE
    wait_for(lambda: not any(map(alive, mine)), 20)

# D13

HEADERS = [('not JSON', '{'), ('no dict', '[1]'), ('a number', '5')]

@pytest.mark.parametrize('why,text', HEADERS, ids=[o for o,_ in HEADERS])
def test_headers_that_are_none(capsys, made, tmp_path, why, text):
    (tmp_path/'w.safetensors').write_bytes(save({'x': torch.zeros(1)}, {'facestudy': text}))
    refused(animate(capsys, made, tmp_path/'w.safetensors', tmp_path/'o.mp4'), 'w.safetensors', 'damaged')

SUPERRES = {'kind': 'superres', 'class': 'facestudy.method.superres:SuperResolution'}
CHANGED = [{'class': None}, {'name': None}, {'version': None}, {'config': None}, {'name': '../x'}, {'version': '1'},
           {'config': []}, {'config': {'size': 1e9}}, {'config': {'size': -1}}, {'config': {'size': 0}}, {'config': {}},
           {'class': 5}, {'class': 'facestudy.systems.suggested:Suggested', 'config': {'keypoints': -1}},
           {'class': 'facestudy.systems.x2face:X2Face', 'config': {'size': 64, 'width': 3}},
           SUPERRES | {'config': {'width': 4, 'scale': 0}}]

@pytest.mark.parametrize('change', CHANGED, ids=str)
def test_headers_of_other_kinds(capsys, made, weights, tmp_path, change):
    tensors,meta = load_tensors(weights)
    meta = {k: v for k,v in (meta | change).items() if v is not None}
    save_tensors(tmp_path/'w.safetensors', tensors, meta)
    option = 'superres' if change.get('kind') == 'superres' else 'system'
    result = animate(capsys, made, weights, tmp_path/'o.mp4', **{option: tmp_path/'w.safetensors'})
    refused(result, 'w.safetensors')

# D14

DAMAGE = {'empty': b'', 'cut': b'{"size": 6', 'Latin-1': 'caf\xe9,"'.encode('latin-1'), 'list': b'[1, 2]'}

@pytest.mark.parametrize('name', ['prepare.json', 'manifest.csv'])
@pytest.mark.parametrize('data', DAMAGE.values(), ids=DAMAGE)
def test_damaged_notes_of_prepare(capsys, made, tmp_path, name, data):
    argv = 'prepare', made/'clips', tmp_path/'out', *LIMITS
    assert run(capsys, *argv)[0] == 0
    (tmp_path/'out'/name).write_bytes(data)
    refused(run(capsys, *argv), name)

@pytest.mark.parametrize('name', ['rows.csv', '.done.json'])
def test_damaged_notes_of_reconstruct(capsys, made, weights, tmp_path, name):
    rebuild(capsys, weights, made/'clips', tmp_path/'r')
    whole = (tmp_path/'r'/name).read_bytes()
    for data in (b'', whole[:-20], 'caf\xe9,"'.encode('latin-1')):
        (tmp_path/'r'/name).write_bytes(data)
        assert rebuild(capsys, weights, made/'clips', tmp_path/'r')[0] == 0
        assert (tmp_path/'r'/name).read_bytes() == whole

def test_a_manifest_of_clips_that_is_none(capsys, made, tmp_path, monkeypatch):
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'runs'))
    shutil.copytree(made/'clips', tmp_path/'clips')
    for data in (b'', b'name,identity\n"a', 'name\ncaf\xe9'.encode('latin-1')):
        (tmp_path/'clips'/'manifest.csv').write_bytes(data)
        result = run(capsys, 'train', 'suggested_shared', '--profile', 'smoke', '--clips', tmp_path/'clips')
        refused(result, 'manifest.csv')

# D17

def test_the_result_never_replaces_an_input(capsys, made, weights, tmp_path):
    system = shutil.copy(weights, tmp_path/'w.mp4')
    before = Path(system).read_bytes()
    refused(animate(capsys, made, system, system), 'overwrite an input')
    refused(animate(capsys, made, weights, system, superres=system), 'overwrite an input')
    (tmp_path/'take.mp4').write_text('jawOpen\n0\n')
    common = 'puppet', '--source', made/'photo.png', '--system', weights
    refused(run(capsys, *common, '--motion', tmp_path/'take.mp4', '--out', tmp_path/'take.mp4'), 'overwrite an input')
    photo = shutil.copy(made/'photo.png', tmp_path/'p.png')
    sheet = 'puppet', '--source', photo, '--system', weights, '--sheet'
    refused(run(capsys, *sheet, '--out', photo), 'overwrite an input')
    assert Path(system).read_bytes() == before and Path(photo).read_bytes() == (made/'photo.png').read_bytes()

def test_two_videos_never_share_a_clip(capsys, made, tmp_path):
    (tmp_path/'in'/'a').mkdir(parents=True)
    for name in ('a/b.mp4', 'a#b.mp4'): shutil.copy(made/'silent.mp4', tmp_path/'in'/name)
    refused(run(capsys, 'prepare', tmp_path/'in', tmp_path/'out', *LIMITS), 'both would be called a#b.mp4; rename one')
    assert not (tmp_path/'out').exists()

def test_a_system_that_is_named_twice_counts_once():
    assert cli._chosen('improved,copy_source, improved') == ('improved', 'copy_source')
    with pytest.raises(InputError, match="'nope' is unknown"): cli._chosen('improved,nope')
