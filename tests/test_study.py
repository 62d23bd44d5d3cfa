"The smoke profile end to end, through papermill, twice"
import os

import pandas as pd
import pytest
from facestudy.core import ROOT, InputError
from facestudy.report import render, report
from facestudy.study import SYSTEMS, TIMINGS, open_clips, plan, study
from facestudy.tables import table1


pytestmark = pytest.mark.xdist_group('study')     # one worker: the smoke study runs twice, not twice per worker


@pytest.fixture(scope='module')
def twice(embedded, tmp_path_factory):
    "The whole smoke study in two separate places"
    pages = []
    for name in 'ab':
        d = tmp_path_factory.mktemp(name)
        os.environ['FACESTUDY_RUNS'] = str(d/'runs')
        pages.append(report('smoke', out=d/'reports', device='cpu'))
    del os.environ['FACESTUDY_RUNS']
    return pages


def rows(page): return pd.read_csv(page.with_suffix('.rows.csv'))


def test_same_seed_same_rows(twice):
    a,b = (rows(p).drop(columns=TIMINGS) for p in twice)
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_every_system_has_its_line(twice):
    t = table1(rows(twice[0]))
    assert set(SYSTEMS) <= set(t.index)
    assert t.loc[list(SYSTEMS), 'PSNR'].between(5, 60).all()
    assert t.loc['copy_source', 'gain, dB'] == 0


def test_page_shows_the_table(twice):
    page = twice[0].read_text()
    for s in SYSTEMS.values(): assert s.label in page
    assert '30.74' in page and 'article' in page


def test_rows_tell_where_they_come_from(twice):
    r = rows(twice[0])
    for c in ('run', 'seed', 'data', 'device', 'versions', 'train_seconds', 'precision', 'features'): assert r[c].notna().all(), c
    assert (r.frame > 0).all()


def test_another_seed_is_another_run(embedded):
    assert plan('improved', 'smoke', embedded, 0).id != plan('improved', 'smoke', embedded, 1).id


def test_unknown_parameter(tmp_path):
    with pytest.raises(InputError, match='no parameter profil'): render(ROOT/'nbs'/'reports'/'table1.ipynb', tmp_path/'x.ipynb', profil='quick')


def test_unknown_names():
    with pytest.raises(InputError, match='profile'): study('fast')
    with pytest.raises(InputError, match='system'): study('smoke', ['x2face_'])


def test_store_of_another_size(embedded):
    with pytest.raises(InputError, match='holds 32 px, and 64 px are needed'): open_clips(embedded.folder, 64)
