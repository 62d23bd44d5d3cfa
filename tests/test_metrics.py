"PSNR, SSIM and their averages: facestudy.measure.metrics"
import math

import numpy as np
import pandas as pd
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from facestudy.core import InputError
from facestudy.measure.metrics import PSNR_CAP, coherence, psnr, psnr_bound, score_clip, score_regions, ssim, summarise
from facestudy.people.head import REGIONS


def reference(a, b, full=False):
    "SSIM by scikit-image; with `full`, its map too"
    return structural_similarity(a, b, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5,
                                 use_sample_covariance=False, full=full)

def image(kind, h, w, seed=0):
    rng = np.random.default_rng(seed)
    if kind == 'noise': return rng.integers(0, 256, (h, w, 3), np.uint8)
    if kind == 'flat': return np.full((h, w, 3), 200, np.uint8)
    x = np.linspace(0, 6, h)[:, None, None] + np.linspace(0, 4, w)[None, :, None] + np.arange(3)
    return (127 + 90*np.sin(x) + rng.normal(0, 5, (h, w, 3))).clip(0, 255).astype(np.uint8)

@pytest.mark.parametrize('h,w', [(11, 11), (64, 64), (37, 50), (128, 96)])
@pytest.mark.parametrize('kind', ['noise', 'flat', 'waves'])
def test_equals_scikit_image(kind, h, w):
    a,b = image(kind, h, w),image('waves', h, w, 1)
    assert ssim(a, b) == pytest.approx(reference(a, b), abs=1e-6)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)

@pytest.mark.parametrize('size', [32, 150])   # several frames in a stack, and one
def test_clip_equals_frame_by_frame(size):
    truth = np.stack([image('waves', size, size, i) for i in range(30)])
    out = np.stack([image('waves', size, size, i+50) for i in range(30)])
    rows = score_clip(truth, out)
    assert list(rows.frame) == list(range(1, 30))
    assert np.allclose(rows.psnr, [psnr(a, b) for a,b in zip(truth[1:], out[1:])], atol=1e-9)
    assert np.allclose(rows.ssim, [reference(a, b) for a,b in zip(truth[1:], out[1:])], atol=1e-6)

def test_read_only_memmap_is_scored(tmp_path):
    np.save(tmp_path/'a.npy', np.stack([image('waves', 32, 32, i) for i in range(4)]))
    a = np.load(tmp_path/'a.npy', mmap_mode='r')
    assert np.allclose(score_clip(a, a).ssim, 1)

def test_identical_frames():
    a = image('waves', 32, 32)
    assert psnr(a, a) == math.inf and ssim(a, a) == 1
    rows = score_clip(np.stack([a]*3), np.stack([a]*3))
    assert (rows.psnr == PSNR_CAP).all() and PSNR_CAP == pytest.approx(58.92, abs=.01)
    infinite = pd.DataFrame({'clip': 'a', 'frame': [1, 2], 'psnr': [math.inf, 20.], 'ssim': 1.})
    assert summarise(infinite)['psnr'] == pytest.approx((PSNR_CAP+20)/2)

def test_six_decibels():
    a,b = image('waves', 32, 32),image('waves', 32, 32, 1)
    assert peak_signal_noise_ratio(a/255, b/255, data_range=2) - psnr(a, b) == pytest.approx(6.0206, abs=1e-4)
    assert psnr(a, b) <= psnr_bound(np.abs(a/255-b/255).mean())

A = np.zeros((4, 16, 16, 3), np.uint8)
@pytest.mark.parametrize('a,b,says', [
    (A, A[:3], 'resize one'), (A, A.astype(float), '8-bit'), (A/255, A/255, '8-bit'),
    (A[..., :1], A[..., :1], 'RGB'), (A[0], A[0], 'RGB'),
    (A[:1], A[:1], 'at least two frames'), (A[:, :8], A[:, :8], '11 x 11')])
def test_bad_clips(a, b, says):
    with pytest.raises(InputError, match=says): score_clip(a, b)

@pytest.mark.parametrize('f', [psnr, ssim])
def test_bad_frames(f):
    with pytest.raises(InputError, match='resize one'): f(A[0], A[0, :12])
    with pytest.raises(InputError, match='8-bit'): f(A[0]/255, A[0]/255)

def rows(name, values, hidden=False):
    "Rows of one clip, SSIM a hundredth of PSNR"
    return pd.DataFrame({'clip': name, 'frame': range(1, len(values)+1), 'psnr': values,
                         'ssim': np.array(values)/100, 'hidden': hidden})

def test_summarise():
    s = summarise(pd.concat([rows('a', [30.]), rows('b', [20.]*9)]))
    assert (s['psnr'], s['psnr_pooled'], s['clips'], s['frames']) == (25, 21, 2, 10)
    assert (s['clips_hidden'], s['frames_hidden']) == (0, 0)
    assert s['ssim'] == pytest.approx(.25) and s['ssim_pooled'] == pytest.approx(.21) and math.isnan(s['psnr_hidden'])

def test_hidden_frames_are_apart():
    s = summarise(pd.concat([rows('a', [30.]), rows('b', [20., 10., 10.], [False, True, True]), rows('c', [5.], True)]))
    assert (s['psnr'], s['frames'], s['clips']) == (25, 2, 2)
    assert s['psnr_hidden'] == 7.5 and s['psnr_pooled_hidden'] == pytest.approx(25/3)
    assert (s['frames_hidden'], s['clips_hidden']) == (3, 2)

@pytest.mark.parametrize('bad,says', [
    (rows('a', [30.]).drop(columns='ssim'), "'ssim'"), (rows('a', [math.nan, 1.]), 'missing scores'),
    (rows('a', []), 'empty'), (rows('a', [30.]).assign(frame=0), 'frame 0')])
def test_bad_rows(bad, says):
    with pytest.raises(InputError, match=says): summarise(bad)

def labelled(h=40, w=40, n=4):
    "Waves, another set of waves, and labels with a face, eyes and a mouth"
    a,b = (np.stack([image('waves', h, w, i+k) for i in range(n)]) for k in (0, 50))
    lab = np.zeros((n, h, w), np.uint8)
    for name,(y0,y1,x0,x1) in dict(face=(8, 34, 8, 32), eyes=(14, 17, 12, 28), mouth=(25, 29, 15, 25)).items():
        lab[:, y0:y1, x0:x1] = REGIONS.index(name)
    return a,b,lab

COLUMNS = [f'{m}_{r}' for m in ('psnr', 'ssim') for r in ('eyes', 'mouth', 'face')]

def test_regions_by_hand():
    a,b,lab = labelled()
    rows = score_regions(a, b, lab, grow=.05)
    assert list(rows) == ['frame', *COLUMNS] and list(rows.frame) == [1, 2, 3]
    for t in (1, 2, 3):
        d = (a[t].astype(float)-b[t])**2
        assert rows.psnr_face[t-1] == pytest.approx(10*np.log10(255**2/d[8:34, 8:32].mean()))
        grown = d[23:31, 13:27]                                                # by two pixels of 40
        assert rows.psnr_mouth[t-1] == pytest.approx(10*np.log10(255**2/grown.mean()))
        _,full = reference(a[t], b[t], full=True)
        assert rows.ssim_eyes[t-1] == pytest.approx(full[12:19, 10:30].mean(), abs=1e-6)

def test_regions_see_only_their_own_mistakes():
    a,_,lab = labelled()
    b = a.copy()
    b[:, 25:29, 15:25] = 255-b[:, 25:29, 15:25]
    r = score_regions(a, b, lab).mean()
    assert r.psnr_eyes == pytest.approx(PSNR_CAP)
    assert r.psnr_mouth < r.psnr_face < PSNR_CAP and r.ssim_mouth < r.ssim_face < 1
    same = score_regions(a, a, lab)
    assert np.allclose(same[COLUMNS[:3]], PSNR_CAP) and np.allclose(same[COLUMNS[3:]], 1)

def test_a_region_out_of_sight_is_missing():
    a,b,lab = labelled()
    lab[2][lab[2] == REGIONS.index('eyes')] = REGIONS.index('face')
    r = score_regions(a, b, lab)
    assert np.isnan(r.psnr_eyes[1]) and np.isnan(r.ssim_eyes[1])
    assert r.drop(columns=['psnr_eyes', 'ssim_eyes']).notna().all(axis=None)
    with pytest.raises(InputError, match='one label per pixel'): score_regions(a, b, lab[:, :-1])

def test_coherence():
    a,b,_ = labelled()
    d = b.astype(float)-a
    assert np.allclose(coherence(a, b), np.sqrt(((d[1:]-d[:-1])**2).mean((1, 2, 3))))
    assert coherence(a, a).tolist() == [0, 0, 0] and coherence(a//2, a//2+20).tolist() == [0, 0, 0]
    with pytest.raises(InputError, match='two frames'): coherence(a[:1], a[:1])
    with pytest.raises(InputError, match='8-bit'): coherence(a/255, b/255)
