"Super-resolution: shapes, the bicubic start, learning, repeatability, checkpoints"
import numpy as np
import pytest
import torch
from skimage import data

from facestudy.core import InputError, save_tensors, to_tensor
from facestudy.method.superres import (SuperResolution, bicubic, degrade, enlarge, face_patches, load_superres, save_superres,
                                sr_loss, superres_cost, train_superres)

def noise(rng, batch, side=32):
    "Any images will do where only the machinery is tested"
    return torch.tensor(rng.random((batch, 3, side, side)), dtype=torch.float32)

@pytest.mark.parametrize('h,w', [(32, 32), (33, 65), (7, 50), (1, 1)])
@pytest.mark.parametrize('scale', [1, 2, 4])
def test_any_size_and_bicubic_start(h, w, scale):
    low = torch.rand(2, 3, h, w)
    net = SuperResolution(4, scale).eval()
    assert net(low).shape == (2, 3, h*scale, w*scale)
    torch.testing.assert_close(net(low), bicubic(low, scale).clamp(0, 1), rtol=0, atol=0)

def test_every_layer_learns():
    net = SuperResolution(4)
    torch.nn.init.normal_(net.paint.weight)
    sr_loss(net(torch.rand(1, 3, 32, 32)), torch.rand(1, 3, 64, 64)).backward()
    assert [n for n,p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []

def test_skips_join_block_i_to_n_minus_i_plus_1():
    net,seen = SuperResolution(4),{}
    for i,d in enumerate(net.downs, 1): d.register_forward_hook(lambda m, a, o, i=i: seen.__setitem__(('skip', i), o[1]))
    for j,u in enumerate(net.ups, 1): u.register_forward_hook(lambda m, a, o, j=j: seen.__setitem__(('got', j), a[1]))
    net(torch.rand(1, 3, 32, 32))
    assert len(net.downs) == len(net.ups) == 5
    assert all(seen['skip', i] is seen['got', 5-i+1] for i in range(1, 6))

def test_eq7_is_the_mean_square():
    a,b = np.random.default_rng(0).random((2, 2, 3, 5, 5))
    assert float(sr_loss(torch.tensor(a), torch.tensor(b))) == pytest.approx(((a-b)**2).mean())

def test_degrade_averages_squares():
    x = np.random.default_rng(0).random((1, 3, 8, 8))
    np.testing.assert_allclose(degrade(torch.tensor(x), 4).numpy(), x.reshape(1, 3, 2, 4, 2, 4).mean((3, 5)))
    with pytest.raises(ValueError, match='does not divide'): degrade(torch.tensor(x), 3)

def test_beats_bicubic_on_a_face_it_has_not_seen():
    photo = data.astronaut()
    model,log = train_superres(face_patches(photo[None, 224:], 32), steps=150, width=8)            # suit and flag
    high = to_tensor(photo[:200, 120:320])[None]                                                   # head
    with torch.no_grad(): ours,theirs = sr_loss(model(degrade(high)), high), sr_loss(bicubic(degrade(high)).clamp(0, 1), high)
    assert ours < .95*theirs
    assert len(log) == 150 and not model.training

def test_same_seed_same_bits():
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    runs = [train_superres(frames, steps=3, batch=2, seed=s, width=4) for s in (1, 1, 2)]
    same = [all(torch.equal(p, q) for p,q in zip(runs[0][0].parameters(), r[0].parameters())) for r in runs]
    assert same == [True, True, False]
    assert runs[0][1].equals(runs[1][1])

def test_patches_are_cut_from_the_frames():
    frames = np.arange(2*16*16*3).reshape(2, 16, 16, 3) % 251
    got = face_patches([frames.astype(np.uint8)], 8)(np.random.default_rng(0), 20).mul(255).round().byte().movedim(1, -1).numpy()
    all_of_them = {f[y:y+8, x:x+8][:, ::s].astype(np.uint8).tobytes() for f in frames for y in range(9) for x in range(9) for s in (1, -1)}
    assert all(g.tobytes() in all_of_them for g in got)

def test_enlarge_leaves_the_mode_alone_and_does_not_depend_on_the_batch():
    frames,model = np.random.default_rng(0).integers(0, 255, (5, 20, 24, 3), dtype=np.uint8), SuperResolution(4).train()
    out = enlarge(frames, model, batch=2)
    assert out.shape == (5, 40, 48, 3) and out.dtype == np.uint8 and model.training
    np.testing.assert_allclose(out[3].astype(int), enlarge(frames[3], model), atol=1)

def test_cost_grows_with_area_and_width():
    small,big = superres_cost(SuperResolution(8), 32), superres_cost(SuperResolution(8), 64)
    assert big['gmacs'] == pytest.approx(4*small['gmacs'])
    assert big['parameters'] == small['parameters'] < superres_cost(SuperResolution(16), 32)['parameters']

def test_checkpoint_round_trip(tmp_path):
    model = train_superres(noise, steps=2, width=4)[0]
    save_superres(tmp_path/'new'/'sr.safetensors', model, clips='digest')
    back = load_superres(tmp_path/'new'/'sr.safetensors')
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(back(x), model(x))

@pytest.mark.parametrize('meta,says', [({'kind': 'suggested'}, 'not of superres'), ({}, 'not of superres'),
                                       ({'kind': 'superres', 'version': 99, 'width': 4, 'scale': 2}, 'version 99'),
                                       ({'kind': 'superres', 'version': 1, 'width': 8, 'scale': 2}, 'do not fit'),
                                       ({'kind': 'superres', 'version': 1}, 'do not fit')])
def test_foreign_checkpoints_are_refused(tmp_path, meta, says):
    f = tmp_path/'sr.safetensors'
    save_tensors(f, SuperResolution(4).state_dict(), meta)
    with pytest.raises(InputError, match=says): load_superres(f)

def test_damaged_and_missing_checkpoints_are_refused(tmp_path):
    f = tmp_path/'sr.safetensors'
    save_superres(f, SuperResolution(4))
    f.write_bytes(f.read_bytes()[:-1])
    with pytest.raises(InputError, match='damaged'): load_superres(f)
    with pytest.raises(InputError, match='no such file'): load_superres(tmp_path/'none.safetensors')
