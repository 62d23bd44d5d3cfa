"ONNX files of a system: what is in them, that they draw as PyTorch does, and what happens without them"
import contextlib
import io
import json
import re
import sys

import numpy as np
import onnx
import pytest
import torch
from skimage import data

from facestudy import cli
from facestudy.animate import animate_photo, system_digest
from facestudy.core import ROOT, InputError, seed_all, to_tensor, write_text
from facestudy.grids import resize_to
from facestudy.improved import runtime
from facestudy.improved.runtime import (PARTS, Graphs, Running, drawn_without, export_folder, faster_here, on_engine,
                                        processor, write_graphs)
from facestudy.improved.system import Improved
from facestudy.media import read_video
from facestudy.nets import folded, load_net, save_net
from facestudy.training.system import CopySource
from test_animate import made    # a fixture
from test_cli import run

CPU = torch.device('cpu')

@pytest.fixture(scope='module')
def system():
    "Small, with the released landmark networks, and heads that say something"
    seed_all(0)
    s = Improved(64, look=64, frame_motion=[8]*4, face_motion=[8]*4, frame_paint=[8]*3, face_paint=[8]*4).eval()
    for name in s.aids: s.take_aid(name, load_net(ROOT/'data'/'checkpoints'/f'{name}.safetensors'))
    for net in (s.frame_motion, s.face_motion, s.frame_paint, s.face_paint):
        torch.nn.init.normal_(net.head.weight, std=.02)
    return s

@pytest.fixture(scope='module')
def digest(system): return system_digest(system)

@pytest.fixture(scope='module')
def film():
    "A photo, and twenty frames that move"
    face = to_tensor(data.astronaut()[:224, 112:336])[None]
    def view(i, j): return resize_to(face[:, :, i:i+200, j:j+200], 64)[0]
    return view(12, 12),[view(t, (7*t) % 24) for t in range(20)]

@pytest.fixture(scope='module')
def said(system, film, tmp_path_factory):
    "What `facestudy export` prints; its files lie in a cache of their own, and the check needs no rendered people"
    d = tmp_path_factory.mktemp('exported')
    save_net(d/'small.safetensors', system, 'system')
    with pytest.MonkeyPatch.context() as m, contextlib.redirect_stdout(io.StringIO()) as out:
        m.setenv('FACESTUDY_CACHE', str(d/'cache'))
        m.setattr(runtime, 'strangers', lambda *_: (film[0], torch.stack(film[1][:4])))
        assert cli.main(['export', '--system', str(d/'small.safetensors'), '--size', '64']) == 0
        yield out.getvalue()

@pytest.fixture(scope='module')
def exported(said, digest): return export_folder(digest)

def frames(system, film, **kw): return np.stack(list(system.animate(*film, **kw))).astype(int)

def test_files_hold_standard_operators_no_code_and_say_what_they_are(exported, digest):
    assert sorted(f.name for f in exported.iterdir() if f.suffix == '.onnx') == [f'{o}.onnx' for o in sorted(PARTS)]
    for name in PARTS:
        model = onnx.load(exported/f'{name}.onnx')
        notes = {o.key: o.value for o in model.metadata_props}
        assert model.opset_import[0].version >= 16 and not model.functions
        assert {o.domain for o in model.graph.node} == {''}
        assert (notes['part'], notes['system'], notes['weights'], notes['size']) == (name, 'improved', digest, '64')

@pytest.mark.parametrize('size', [64, 100])
@pytest.mark.parametrize('relative', [True, False])
def test_frames_are_those_of_pytorch(system, exported, digest, film, size, relative):
    a,b = (frames(s, film, size=size, relative=relative) for s in (system, Running(system, exported, digest)))
    assert np.abs(a-b).max() <= 1 and np.abs(a[0]-a[10]).max() > 50

def test_the_three_files_draw_a_frame_without_the_system(system, exported, digest, film):
    photo,driving = film
    bare = drawn_without(Graphs(exported, digest), system, photo, driving[5], 64)
    there = frames(system, (photo, driving[5:6]))[0]
    assert np.abs(255*bare.permute(1, 2, 0).numpy()-there).max() <= 1

def test_folding_changes_nothing_but_rounding(system, film):
    lean = folded(system)
    assert not any(isinstance(o, torch.nn.BatchNorm2d) for o in lean.looker.modules())
    assert np.abs(frames(system, film)-frames(lean, film)).max() <= 1

def test_files_of_other_weights_and_damaged_ones_are_refused(exported, digest, tmp_path):
    with pytest.raises(InputError, match='find.onnx: it holds other weights'): Graphs(exported, 'another digest')
    for name in PARTS: (tmp_path/f'{name}.onnx').write_bytes((exported/f'{name}.onnx').read_bytes()[:1000])
    with pytest.raises(InputError, match='find.onnx: ONNX Runtime cannot read it'): Graphs(tmp_path, digest)

def test_without_the_packages_one_sentence_names_the_extra(system, exported, digest, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(InputError, match=r'onnxruntime cannot be imported .* the extra onnx'):
        on_engine(system, CPU, 'onnx', digest)
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(InputError, match=r'onnx cannot be imported'): write_graphs(system, exported, 64, digest)

def test_auto_takes_what_was_faster_on_such_a_processor(system, exported, digest):
    kept = (exported/'speed.json').read_text()
    (exported/'speed.json').unlink()
    assert on_engine(system, CPU, 'auto', digest)[1] == 'torch'                    # never measured
    for onnx_speed,expected in ((1., 'torch'), (3., 'onnx')):
        write_text(exported/'speed.json', json.dumps({processor(): {'torch': 2., 'onnx': onnx_speed}}))
        assert on_engine(system, CPU, 'auto', digest)[1] == expected
        assert on_engine(system, CPU, 'torch', digest)[1] == 'torch'
    write_text(exported/'speed.json', json.dumps({'another one': {'torch': 2., 'onnx': 3.}}))
    assert not faster_here(exported)
    write_text(exported/'speed.json', kept)

def test_other_systems_are_run_by_pytorch_and_not_exported(exported):
    other = CopySource(64)
    assert on_engine(other, CPU, 'auto', 'x')[1] == 'torch'
    with pytest.raises(InputError, match='copy_source: only systems of the kind improved'):
        on_engine(other, CPU, 'onnx', 'x')

def test_animate_says_which_engine_drew(system, exported, made, tmp_path):
    args = dict(photo=made/'photo.png', driving=made/'silent.mp4', system=system, device='cpu', progress=False, size=64,
                crop=True)
    both = [animate_photo(out=tmp_path/f'{e}.mp4', engine=e, **args) for e in ('torch', 'onnx')]
    assert [o['engine'] for o in both] == ['torch', 'onnx']
    a,b = (read_video(o['out'])[0].astype(int) for o in both)
    assert a.shape == b.shape and np.abs(a-b).mean() < .1                          # H.264 in between

def test_export_says_how_equal_and_how_fast_it_is(said, exported):
    assert str(exported) in said and 'ONNX Runtime' in said
    assert float(re.search(r'by at most ([\d.]+)/255', said)[1]) <= 1
    assert set(json.loads((exported/'speed.json').read_text())) == {processor()}

def test_export_of_another_system(capsys, tmp_path):
    save_net(tmp_path/'copy.safetensors', CopySource(64), 'system')
    code,_,err = run(capsys, 'export', '--system', tmp_path/'copy.safetensors', '--out', tmp_path/'o')
    assert code == 1 and 'only systems of the kind improved can be exported' in err[-1]
    assert not list((tmp_path/'o').glob('*'))

def test_engine_onnx_before_any_export(capsys, made, tmp_path):
    code,_,err = run(capsys, 'animate', '--source', made/'photo.png', '--driving', made/'silent.mp4', '--system',
                     ROOT/'data'/'checkpoints'/'improved.safetensors', '--out', tmp_path/'x.mp4', '--engine', 'onnx')
    assert code == 1 and 'run `facestudy export`' in err[-1] and not (tmp_path/'x.mp4').exists()
