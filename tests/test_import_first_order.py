"Published first-order checkpoints: every weight lands, every step agrees, and what does not fit is refused"
import json
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import yaml
from facestudy import cli
from facestudy.core import InputError, seed_all, sha256, to_tensor
from facestudy.data.embedded import embedded_store
from facestudy.data.pairs import Pairs
from facestudy.measure.metrics import score_clip
from facestudy.nets import load_net, net_meta, save_net
from facestudy.pages.tables import table1
from facestudy.study.study import check_extra, study
from facestudy.systems.first_order import blur_kernel
from facestudy.systems.import_first_order import (LABEL, NAME, import_first_order, parity, parity_folder,
                                                  random_checkpoint, steps)
from facestudy.training.system import CopySource

HOURGLASS = dict(block_expansion=4, max_features=12, num_blocks=3, scale_factor=.25)
CONFIG = {'model_params': {
    'common_params': dict(num_kp=3, num_channels=3, estimate_jacobian=True),
    'kp_detector_params': dict(HOURGLASS, temperature=.1),
    'generator_params': dict(block_expansion=4, max_features=12, num_down_blocks=2, num_bottleneck_blocks=2,
                             estimate_occlusion_map=True, dense_motion_params=HOURGLASS)},
    'dataset_params': {'frame_shape': [96, 96, 3]}}
KP,PAINT,DENSE = 'kp_detector', 'generator', 'dense_motion_network.'
STEPS = 'kp_source', 'kp_driving', 'jac_driving', 'flow', 'occlusion', 'prediction'


@pytest.fixture(scope='module')
def published():
    "Random weights, and the blurs that the authors keep among them; heat maps are flat, so that many pixels count"
    torch.set_num_threads(1)
    k = blur_kernel(4)
    blur = torch.outer(k, k).expand(3, 1, -1, -1).clone()
    held = random_checkpoint(CONFIG)
    held[KP]['kp.weight'] *= .1
    return {KP: held[KP] | {'down.weight': blur}, PAINT: held[PAINT] | {f'{DENSE}down.weight': blur}, 'epoch': 1}


@pytest.fixture(scope='module')
def films():
    "Random photo and driving frames, blurred so that they move visibly"
    seed_all(1)
    def smooth(n): return F.interpolate(torch.rand(n, 3, 12, 12), (96, 96), mode='bilinear')
    return smooth(1), smooth(2)


def write(folder, checkpoint, config=CONFIG):
    "The two published files, and where the system goes"
    torch.save(checkpoint, folder/'c.pth.tar')
    (folder/'c.yaml').write_text(yaml.safe_dump(config))
    return folder/'c.pth.tar', folder/'c.yaml', folder/'c.safetensors'


def imported(folder, checkpoint, **kw): return load_net(import_first_order(*write(folder, checkpoint), **kw), 'system')


# The authors' computation under PyTorch 1.0, restated from their published layers: a second witness

def norm(w, name, x):
    "A batch norm in evaluation"
    return F.batch_norm(x, *(w[f'{name}.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias')))

def conv(w, name, x, pad=0): return F.conv2d(x, w[f'{name}.weight'], w[f'{name}.bias'], padding=pad)

def block(w, name, x, pad=1): return F.relu(norm(w, f'{name}.norm', conv(w, f'{name}.conv', x, pad)))

def hourglass(w, name, x, depth=3):
    skips = [x]
    for i in range(depth): skips.append(F.avg_pool2d(block(w, f'{name}.encoder.down_blocks.{i}', skips[-1]), 2))
    x = skips.pop()
    for i in range(depth):
        x = block(w, f'{name}.decoder.up_blocks.{i}', F.interpolate(x, scale_factor=2))
        x = torch.cat([x, skips.pop()], 1)
    return x

def down(w, name, x): return F.conv2d(F.pad(x, (6, 6, 6, 6)), w[name], groups=3)[..., ::4, ::4]

def corners(h, w):
    x = (2*torch.arange(w)/(w-1) - 1).view(1, -1).repeat(h, 1)
    y = (2*torch.arange(h)/(h-1) - 1).view(-1, 1).repeat(1, w)
    return torch.stack([x, y], 2)

def detect(w, image):
    x = hourglass(w, 'predictor', down(w, 'down.weight', image))
    maps = conv(w, 'kp', x)
    heat = F.softmax(maps.flatten(2)/.1, 2).view(maps.shape)
    points = (heat[..., None]*corners(*heat.shape[2:])).sum((2, 3))
    slopes = conv(w, 'jacobian', x).view(len(x), 3, 4, *heat.shape[2:])
    return points, (heat[:, :, None]*slopes).sum((3, 4)).view(len(x), 3, 2, 2)

def sampled(x, flow): return F.grid_sample(x, flow, padding_mode='zeros', align_corners=True)

def bump(points, grid): return torch.exp(-.5*(grid-points[:, :, None, None]).square().sum(-1)/.01)

def dense(w, source, kp_source, kp_driving):
    small = down(w, f'{DENSE}down.weight', source)
    (ps,js),(pd,jd),grid = kp_source, kp_driving, corners(*small.shape[2:])
    affine = (js @ torch.inverse(jd))[:, :, None, None]
    moves = (affine @ (grid-pd[:, :, None, None])[..., None])[..., 0] + ps[:, :, None, None]
    moves = torch.cat([grid.expand(len(small), 1, -1, -1, -1), moves], 1)
    looks = torch.stack([sampled(small, moves[:, i]) for i in range(4)], 1)
    heat = bump(pd, grid) - bump(ps, grid)
    heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], 1)[:, :, None]
    x = hourglass(w, f'{DENSE}hourglass', torch.cat([heat, looks], 2).flatten(1, 2))
    share = F.softmax(conv(w, f'{DENSE}mask', x, 3), 1)
    return (share[..., None]*moves).sum(1), conv(w, f'{DENSE}occlusion', x, 3).sigmoid()

def painted(w, source, flow, seen):
    x = block(w, 'first', source, 3)
    for i in (0, 1): x = F.avg_pool2d(block(w, f'down_blocks.{i}', x), 2)
    x = sampled(x, flow)*seen
    for i in (0, 1):
        y = x
        for j in (1, 2): y = conv(w, f'bottleneck.r{i}.conv{j}', F.relu(norm(w, f'bottleneck.r{i}.norm{j}', y)), 1)
        x = x + y
    for i in (0, 1): x = block(w, f'up_blocks.{i}', F.interpolate(x, scale_factor=2))
    return conv(w, 'final', x, 3).sigmoid()

@torch.no_grad()
def witness(checkpoint, source, driving):
    "The authors' steps, by name"
    detector,painter = checkpoint[KP], checkpoint[PAINT]
    kp_source,kp_driving = detect(detector, source), detect(detector, driving)
    photos = source.expand(len(driving), -1, -1, -1)
    flow,seen = dense(painter, photos, [v.expand(len(driving), *v.shape[1:]) for v in kp_source], kp_driving)
    return dict(zip(STEPS, (kp_source[0], *kp_driving, flow, seen, painted(painter, photos, flow, seen))))


def apart(a, b): return {k: (a[k]-b[k]).abs().max().item() for k in STEPS}


def test_every_step_agrees_with_a_second_witness(published, films, tmp_path):
    found = apart(steps(imported(tmp_path, published), *films), witness(published, *films))
    assert max(found.values()) < 1e-4, found

def test_the_other_geometry_differs_where_images_are_sampled(published, films, tmp_path):
    found = apart(steps(imported(tmp_path, published, geometry='torch2'), *films), witness(published, *films))
    assert max(found[k] for k in STEPS[:3]) < 1e-4 and found['prediction'] > 1e-3, found

LANDS = [   # a tensor of theirs, and the first step that it changes
    (KP, 'predictor.encoder.down_blocks.1.conv.bias', 'kp_source'), (KP, 'kp.weight', 'kp_source'),
    (KP, 'jacobian.bias', 'jac_driving'), (PAINT, f'{DENSE}hourglass.decoder.up_blocks.2.norm.bias', 'flow'),
    (PAINT, f'{DENSE}mask.bias', 'flow'), (PAINT, f'{DENSE}occlusion.weight', 'occlusion'),
    (PAINT, 'first.conv.bias', 'prediction'), (PAINT, 'down_blocks.1.norm.running_var', 'prediction'),
    (PAINT, 'bottleneck.r1.conv2.bias', 'prediction'), (PAINT, 'bottleneck.r0.norm2.running_mean', 'prediction'),
    (PAINT, 'up_blocks.0.conv.weight', 'prediction'), (PAINT, 'final.bias', 'prediction')]

@pytest.mark.parametrize('part,name,first', LANDS)
def test_a_changed_tensor_changes_its_own_step_and_those_behind_it(published, films, tmp_path, part, name, first):
    other = deepcopy(published)
    other[part][name][0] += 1
    before,after = (imported(tmp_path, c) for c in (published, other))
    found = apart(steps(before, *films), steps(after, *films))
    assert found[first] > 1e-6 and all(found[k] == 0 for k in STEPS[:STEPS.index(first)])
    assert max(apart(steps(after, *films), witness(other, *films)).values()) < 1e-4

PARITY = parity_folder()

@pytest.mark.skipif(not PARITY, reason="the authors' outputs are not on this machine; FACESTUDY_PARITY names them")
@pytest.mark.parametrize('geometry', ['torch1', 'torch2'])
def test_parity_with_the_authors_outputs(geometry):
    found = parity(PARITY, geometry)
    assert set(found) == set(STEPS) and max(found.values()) < 1e-4, found


# what the file says, and what is refused

def test_the_header_says_where_the_weights_came_from(published, tmp_path):
    checkpoint,config,out = write(tmp_path, published)
    meta = net_meta(import_first_order(checkpoint, config, out), 'system')
    assert meta['name'] == NAME and meta['imported']['checkpoint_sha256'] == sha256(checkpoint)
    assert meta['imported']['config_sha256'] == sha256(config) and 'authors' in meta['imported']['licence']

def test_json_is_read_as_well(published, tmp_path):
    checkpoint,_,out = write(tmp_path, published)
    (tmp_path/'c.json').write_text(json.dumps(CONFIG))
    assert load_net(import_first_order(checkpoint, tmp_path/'c.json', out), 'system').size == 96

def test_where_no_side_is_said_one_is_assumed_aloud(published, tmp_path):
    checkpoint,config,out = write(tmp_path, published, {'model_params': CONFIG['model_params']})
    with pytest.warns(UserWarning, match='no frame_shape; 256 px are assumed'):
        assert load_net(import_first_order(checkpoint, config, out), 'system').size == 256
    assert load_net(import_first_order(checkpoint, config, out, size=64), 'system').size == 64

def test_imported_weights_are_not_trained(published, films, tmp_path):
    nobody = torch.full((1, 4), torch.nan)
    pairs = Pairs(films[0], films[0], nobody, nobody)
    with pytest.raises(InputError, match='not trained further'):
        imported(tmp_path, published).losses('generator', pairs)

class Code:
    "Something that only a full unpickling could bring back"

def spoilt(published, part, name, value):
    "A checkpoint with one tensor changed; None takes it away"
    kept = {k: v for k,v in published[part].items() if k != name}
    return published | {part: kept if value is None else kept | {name: value}}

BAD_WEIGHTS = [
    (lambda c: c | {'extra': Code()}, 'more than tensors'), (lambda c: {KP: c[KP]}, 'lacks the part generator'),
    (lambda c: [1, 2], 'lacks the part kp_detector and generator'),
    (lambda c: spoilt(c, KP, 'kp.bias', None), 'nothing in it is for detector.maps.bias'),
    (lambda c: spoilt(c, KP, 'kp.bias', torch.ones(9)), r'kp_detector.kp.bias is \(9,\)'),
    (lambda c: spoilt(c, PAINT, 'first.conv.bias', torch.ones(9)), 'first.conv.bias has no place'),
    (lambda c: spoilt(c, PAINT, 'final.bias', torch.full((3,), torch.nan)), 'finite'),
    (lambda c: spoilt(c, PAINT, 'final.bias', 'three'), 'finite'),
    (lambda c: spoilt(c, KP, 'down.weight', torch.ones(3, 1, 13, 13)), 'not the blur')]

@pytest.mark.parametrize('spoil,says', BAD_WEIGHTS)
def test_a_checkpoint_that_does_not_fit_is_refused(published, tmp_path, spoil, says):
    files = write(tmp_path, spoil(published))
    with pytest.raises(InputError, match=says) as e: import_first_order(*files)
    assert str(e.value).startswith(str(files[0])) and '\n' not in str(e.value) and not files[2].exists()

def with_value(section, key, value):
    "The configuration with one value changed; None takes it away"
    config = deepcopy(CONFIG)
    place = config['model_params']
    for k in section.split('.'): place = place[k]
    place[key] = value
    if value is None: del place[key]
    return config

DENSE_PARAMS = 'generator_params.dense_motion_params'
BAD_CONFIGS = [
    ('common_params', 'estimate_jacobian', False, 'supports True alone'),
    ('generator_params', 'estimate_occlusion_map', False, 'supports True alone'),
    ('common_params', 'num_channels', 1, 'supports 3 alone'), ('common_params', 'num_kp', None, 'lacks .*num_kp'),
    ('generator_params', 'dense_motion_params', None, 'lacks .*dense_motion_params'),
    ('kp_detector_params', 'num_blocks', 'three', 'a positive number'),
    ('kp_detector_params', 'num_blocks', 9, '--size'),
    ('kp_detector_params', 'single_jacobian_map', True, 'supports False alone'),
    ('kp_detector_params', 'scale_factor', .3, 'scale_factor'),
    ('kp_detector_params', 'scale_factor', .5, 'not the blur'),
    (DENSE_PARAMS, 'max_features', 8, 'the configuration asks for'),
    (DENSE_PARAMS, 'kp_variance', .02, 'supports 0.01'),
    (DENSE_PARAMS, 'attention', True, 'unknown')]

@pytest.mark.parametrize('section,key,value,says', BAD_CONFIGS)
def test_a_configuration_that_does_not_fit_is_refused(published, tmp_path, section, key, value, says):
    files = write(tmp_path, published, with_value(section, key, value))
    with pytest.raises(InputError, match=says) as e: import_first_order(*files)
    assert '\n' not in str(e.value) and not files[2].exists()

DAMAGE = [lambda b: b[:len(b)//2], lambda b: b[:100], lambda b: b'PK' + b[:50], lambda b: b'\x80' + b]

@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_checkpoint_is_one_sentence(published, tmp_path, damage):
    checkpoint,config,out = write(tmp_path, published)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(InputError, match='damaged'): import_first_order(checkpoint, config, out)


# the command

def test_from_a_shell_to_an_animated_photo(published, tmp_path, capsys):
    checkpoint,config,out = (str(f) for f in write(tmp_path, published))
    assert cli.main(['import-first-order', checkpoint, config, out]) == 0
    assert 'First-order model (imported weights), 96 px, from c.pth.tar' in capsys.readouterr().out
    system = load_net(out, 'system')
    frames = list(system.animate(torch.rand(3, 96, 96), torch.rand(3, 3, 96, 96), relative=True))
    assert len(frames) == 3 and frames[0].shape == (96, 96, 3)

@pytest.mark.slow
def test_a_row_like_any_other(published, embedded, tmp_path, monkeypatch):
    "It looks at 96 px, and is scored at the 32 px of the table"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'runs'))
    out = import_first_order(*write(tmp_path, published))
    rows = study('smoke', ['copy_source'], device='cpu', parametric=False, extra=[out])
    assert rows.label.unique().tolist() == ['Copy-source (still photo)', LABEL]
    line = table1(rows).loc[NAME]
    assert line.PSNR > 0 and line[['steps', 'pairs', 'minutes']].isna().all() and set(rows.large) == {64, 0}
    store,finer = embedded_store(32),embedded_store(96)
    s = min(store.segments('test'), key=len)
    truth,seen = (np.array(o.frames(s.name)[s.start:s.stop]) for o in (store, finer))
    system,scored = load_net(out, 'system'),rows[(rows.system == NAME) & (rows['clip'] == s.name)].psnr.values
    system.to(memory_format=torch.channels_last)                               # as it is measured
    def psnr_of(x):
        made = system.animate(to_tensor(x[0]), map(to_tensor, x), size=32)
        return score_clip(truth, np.stack(list(made))).psnr.values
    assert np.abs(psnr_of(seen)-scored).max() < 1e-5 < np.abs(psnr_of(truth)-scored).max()
    again = study('smoke', ['copy_source'], device='cpu', parametric=False, extra=[out])
    pd.testing.assert_frame_equal(rows, again)                                 # read, not measured again

def test_only_imported_weights_are_extra(published, tmp_path):
    out = import_first_order(*write(tmp_path, published))
    save_net(tmp_path/'copy.safetensors', CopySource(32), 'system')
    with pytest.raises(InputError, match='--systems asks for its row'): check_extra([tmp_path/'copy.safetensors'])
    with pytest.raises(InputError, match='one row for imported weights of one name'): check_extra([out, out])

def test_the_shell_refuses_in_one_line(published, tmp_path, capsys):
    checkpoint,config,out = (str(f) for f in write(tmp_path, {KP: published[KP]}))
    assert cli.main(['import-first-order', checkpoint, config, out]) == 1
    assert capsys.readouterr().err.count('\n') == 1
