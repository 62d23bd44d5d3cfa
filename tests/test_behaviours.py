"Behaviours for which the originals are known: facestudy.measure.artefacts and facestudy.pages.behaviours"
import cv2
import numpy as np
import pandas as pd
import pytest

from facestudy.measure.artefacts import edges, identity_lost, looks_of, strayed_share, torn
from facestudy.pages.behaviours import BEHAVIOURS, behaviour_figure, behaviour_table, styled_behaviours
from test_errors import clip_of, photo, portrait, rows_of, shifted, spun    # `photo` is a fixture

TORN = .02     # share of the picture: what is torn lies above, what is not below
STRAYED = .1   # share of the borders, the same

@pytest.mark.parametrize('side', [64, 128])
def test_torn_is_neither_blur_nor_motion(side):
    p,x = portrait(side),np.arange(side)
    at,width = 20*side//64,12*side//64
    x = np.where(x < at, x, np.where(x < at+width, at, x-width)).astype(np.float32)
    pulled = cv2.remap(p, *np.meshgrid(x, np.arange(side, dtype=np.float32)), cv2.INTER_LINEAR)
    assert torn(p, pulled) > TORN
    for o in (p, shifted(p, side//16), spun(p, 8), cv2.GaussianBlur(p, (0, 0), side/40)): assert torn(p, o) < TORN

def test_borders_in_the_wrong_place(photo):
    n,drawn = len(photo),np.full_like(photo, 60)
    cv2.circle(drawn, (n//2, n//2), n//4, (220, 180, 160), -1)
    assert edges(drawn, 12.).any() and strayed_share(drawn, drawn) == 0 == strayed_share(drawn, np.full_like(drawn, 90))
    assert strayed_share(drawn, cv2.GaussianBlur(drawn, (0, 0), n/50)) < STRAYED < strayed_share(drawn,
                                                                                                 shifted(drawn, n//8))

def test_identity_between_oneself_and_a_stranger():
    rng = np.random.default_rng(0)
    def smooth(): return cv2.resize(rng.normal(0, 40, (6, 6, 3)), (64, 64), interpolation=cv2.INTER_CUBIC)
    people = [np.clip(128+smooth(), 0, 255).astype(np.uint8) for _ in range(8)]
    kepts = [clip_of(np.stack([p]*3), np.stack([p, p, people[(j+1)%8]]), identity=str(j)) for j,p in enumerate(people)]
    looks = looks_of(kepts)
    assert len(looks) == 8 and all(identity_lost(k, 1, looks) == 0 for k in kepts)
    assert np.mean([identity_lost(k, 2, looks) for k in kepts]) == pytest.approx(1, abs=.15)
    assert np.isnan(identity_lost(kepts[0], 1, looks_of(kepts[:1])))                        # nobody to compare with
    kepts[0].faces[:] = np.nan
    assert np.isnan(identity_lost(kepts[0], 1, looks)) and '0' not in looks_of(kepts)

def test_behaviours_without_rendered_people():
    "What cannot be measured is said to be so"
    p = portrait(64)
    truth = np.stack([shifted(p, d) for d in (0, 1, 2, 3)])
    made = {'one': [clip_of(truth, truth)]}
    t = behaviour_table(made, rows_of('one', (truth, truth)))
    assert t[['loses', 'drifts', 'shears', 'leaks', 'shakes']].isna().all(axis=None)
    assert (t[['tears', 'strays', 'smears']].abs() < 1e-6).all(axis=None)
    assert set(t) == set(BEHAVIOURS) and '–' in styled_behaviours(t, {'one': 'One'}).to_html()
    assert behaviour_figure('leaks', 'one', made['one'], rows_of('one', (truth, truth)), t, {'one': 'One'}) is not None

def test_shear_needs_to_grow_with_the_turn():
    p,angles = portrait(64),np.array([0., 3, 14, 20])
    truth = np.stack([spun(p, a) for a in angles])
    still = clip_of(truth, np.stack([p]*4), truth, angles)
    crooked = clip_of(truth, np.stack([spun(o, 6) for o in truth]), truth, angles)
    t = behaviour_table({'still': [still], 'crooked': [crooked]}, rows_of('still', (truth, truth)), ['shears'])
    assert t.shears['still'] == pytest.approx(1) and abs(t.shears['crooked']) < .2

def test_behaviour_that_appears_is_shown():
    truth = np.stack([portrait(64)]*4)
    other = np.ascontiguousarray(truth[:, :, ::-1])
    made = {'copy_source': [clip_of(truth, truth, other)], 'leaky': [clip_of(truth, other, other)]}
    rows = pd.concat([rows_of(s, (truth, truth), 'parametric cross') for s in made], ignore_index=True)
    t = behaviour_table(made, rows)
    assert t.leaks.round(2).to_dict() == {'copy_source': 0, 'leaky': 1} and (t.shakes == 1).all()
    assert 'lets the driver through' in styled_behaviours(t, {s: s for s in made}).to_html()
    for n in BEHAVIOURS: behaviour_figure(n, 'leaky', made['leaky'], rows, t, {s: s for s in made})
