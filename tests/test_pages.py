"Pages from stored rows"
import json
import shutil

import pytest
from facestudy.core import ROOT, InputError
from facestudy.pages.report import PAGES, reports


def said(notebook):
    "Everything an executed page says: its computed sentences and tables, no pictures"
    cells = json.loads(notebook.read_text())['cells']
    data = [o.get('data', {}) for c in cells for o in c.get('outputs', [])]
    return [''.join(d[kind]) for d in data for kind in ('text/markdown', 'text/html') if kind in d]


def test_the_page_of_claims_is_that_of_its_rows(tmp_path):
    "The committed page says what the committed rows say, and rendering changes no row"
    files = list((ROOT/'reports').glob('ablation.*'))
    for f in files: shutil.copy(f, tmp_path)
    before = {f.name: (tmp_path/f.name).read_bytes() for f in files}
    page = reports(['claims'], tmp_path)['claims']
    assert page.exists() and said(page.with_suffix('.ipynb')) == said(ROOT/'reports'/'claims.ipynb'), 'run `make claims`'
    assert {f.name: (tmp_path/f.name).read_bytes() for f in files} == before


def test_what_cannot_be_rendered_is_said(tmp_path):
    with pytest.raises(InputError, match='unknown'): reports(['table2'])
    with pytest.raises(InputError, match='no such file'): reports(['claims'], tmp_path)


def test_pages_without_their_frames_stay(tmp_path, monkeypatch):
    for f in (ROOT/'reports').glob('table1.*.*'): shutil.copy(f, tmp_path)
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'nothing'))
    assert 'left as it is' in reports(['table1'], tmp_path)['table1'] and not (tmp_path/'table1.html').exists()


def test_every_page_has_its_notebook():
    assert {p.stem for p in (ROOT/'nbs'/'reports').glob('*.ipynb')} <= set(PAGES) | {'errors'}
