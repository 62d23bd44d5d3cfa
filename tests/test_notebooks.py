"Every notebook runs top to bottom, is clean, is exported, and imports only what comes before it"
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from execnb.nbio import read_nb
from facestudy.core import ROOT
from facestudy.pages.readme import departures, departures_page, notebooks, readme
from nbdev.config import get_config
from nbdev.test import test_nb as run_notebook

run_notebook.__test__ = False   # a function of nbdev, not a test
CFG = get_config()
ALL = sorted(p for p in (ROOT/'nbs').glob('**/*.ipynb')
             if not p.name.startswith(('_', '.')) and '.ipynb_checkpoints' not in p.parts)
PACKAGE = ROOT/'facestudy'
PARTS = notebooks() + [ROOT/'nbs'/'index.ipynb']
PAPER = [p for p in ALL if p.parent.name == 'reports']


@pytest.mark.parametrize('nb', PARTS, ids=lambda p: p.relative_to(ROOT/'nbs').with_suffix('').as_posix())
def test_runs(nb):
    ok,_ = run_notebook(nb, skip_flags=CFG.tst_flags.split(), basepath=ROOT)
    assert ok, f'{nb.name} failed; run it in JupyterLab to see where'


def exported(p): return set(re.findall(r'^#\|\s*default_exp\s+(\S+)', source(p), re.M))
@cache
def source(p): return ''.join(c.source+'\n' for c in read_nb(p).cells if c.cell_type == 'code')


def test_imports_flow_left_to_right():
    seen = set()
    for p in PARTS:
        uses = set(re.findall(r'^\s*from facestudy\.([\w.]+) import', source(p), re.M))
        assert uses <= seen|exported(p), f'{p.name} uses {uses-seen}, which come later'
        seen |= exported(p)


def test_components_know_nothing_of_the_study():
    first = next(i for i,p in enumerate(PARTS) if p.parent.name == 'study')
    for p in PARTS[:first]: assert 'facestudy.study' not in source(p), f'{p.name} knows the study'


def test_every_module_has_its_notebook():
    files = (p.relative_to(PACKAGE).with_suffix('') for p in PACKAGE.rglob('*.py') if not p.stem.startswith('_'))
    modules = {'.'.join(p.parts) for p in files}
    assert modules == set().union(*map(exported, PARTS))


@pytest.fixture(scope='session')
def copy(tmp_path_factory):
    "The notebooks, settings and package, cleaned and exported again elsewhere"
    d = tmp_path_factory.mktemp('copy')
    skip = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints')
    for name in ('nbs', 'facestudy'): shutil.copytree(ROOT/name, d/name, ignore=skip)
    for name in ('settings.ini', 'pyproject.toml', 'setup.py'): shutil.copy(ROOT/name, d/name)
    for tool in ('nbdev_clean', 'nbdev_export'):
        subprocess.run([Path(sys.executable).with_name(tool)], cwd=d, check=True)
    return d


def test_notebooks_are_clean(copy):
    dirty = [p.name for p in ALL if (copy/p.relative_to(ROOT)).read_bytes() != p.read_bytes()]
    assert not dirty, f'{dirty}: run `make export`'


def test_package_is_in_sync(copy):
    stale = [p.name for p in PACKAGE.rglob('*.py') if (copy/p.relative_to(ROOT)).read_bytes() != p.read_bytes()]
    assert not stale, f'{stale}: run `make export`'


@pytest.mark.parametrize('nb', PAPER, ids=lambda p: p.stem)
def test_one_parameters_cell(nb):
    assert sum('parameters' in c.metadata.get('tags', []) for c in read_nb(nb).cells) == 1


@pytest.mark.parametrize('name,make', [('README.md', readme), ('reports/departures.md', departures_page)])
def test_collected_pages_are_current(name, make):
    before = (ROOT/name).read_text()
    try: assert make().read_text() == before, f'{name}: run `make export`'
    finally: (ROOT/name).write_text(before)


def test_departures_name_their_subject():
    "Read on a page of their own, they must not begin in the middle of a thought"
    for path,text in departures():
        first = text.split()[0].lower()
        assert first not in ('these', 'this', 'that', 'it', 'they', 'none', 'there'), f'{path.name}: {text[:60]}'
