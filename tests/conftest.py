"Tests leave the machine as they found it: one thread each, no progress bars"
import gc
import os
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

os.environ['FACESTUDY_PROGRESS'] = '0'
for k in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'): os.environ.setdefault(k, '1')

import pytest
from xdist.scheduler import LoadScopeScheduling
from facestudy.core import InputError
from facestudy.data.embedded import embedded_store
from facestudy.people.clips import default_parametric
from facestudy.training.reenact import held_out


@pytest.fixture(scope='session')
def embedded():
    "The embedded clips at 32 px; tests that need them are skipped only where the package index is out of reach"
    try: return embedded_store(32)
    except InputError as e: pytest.skip(f'no embedded clips on this machine: {e}')


@pytest.fixture(scope='session')
def people():
    "The rendered people of the smoke study; tests that need them are skipped only where the head asset is out of reach"
    try: return default_parametric(32, 'smoke')
    except InputError as e: pytest.skip(f'no head asset on this machine: {e}')


def short_curve(store):
    "Three frames of one clip: enough for a training's curve, which decides nothing"
    return held_out(store, clips=1, frames=3)


@pytest.fixture(scope='session')
def smoke(embedded, people, tmp_path_factory):
    "The whole smoke study, trained and rendered once: its page, its rows, and the folder of its runs"
    from facestudy.pages.report import report
    from facestudy.study.study import study
    folder = tmp_path_factory.mktemp('smoke')
    with pytest.MonkeyPatch.context() as m:
        m.setenv('FACESTUDY_RUNS', str(folder/'runs'))
        m.setattr('facestudy.study.study.held_out', short_curve)
        page = report('smoke', out=folder/'reports', device='cpu')
        rows = study('smoke', device='cpu', released=True)                 # reads what is there
    return SimpleNamespace(page=page, rows=rows, runs=folder/'runs')


@pytest.fixture(scope='session', autouse=True)
def frozen():
    "statsmodels collects garbage in every correction, which takes long with PyTorch in memory"
    gc.freeze()
    yield
    gc.unfreeze()


# files that train, render people or pages, or start many processes
SLOW = {f'test_{name}' for name in (
    'ablation', 'book', 'farm', 'live', 'pages', 'release', 'showcase', 'study', 'table1_anatomy', 'training',
    'people_clips', 'people_look', 'prepare', 'landmarker', 'parser', 'superres', 'onnx',
    'mocogan', 'few_shot', 'puppeteer_gan', 'monkey_net', 'x2face', 'first_order', 'driving_autoencoder')}


def pytest_collection_modifyitems(items):
    "Mark what `make test-fast` leaves out: `SLOW` files and whole notebooks"
    for item in items:
        if item.path.stem in SLOW or item.name.startswith('test_runs['): item.add_marker(pytest.mark.slow)


class OneWorkerForAFile(LoadScopeScheduling):
    """A file of tests goes to one worker, so that what its tests share is made once

    The files around the smoke study go together; notebooks are dealt out one by one.
    """
    def _split_scope(self, nodeid):
        if any(f'tests/{f}.py' in nodeid for f in ('test_study', 'test_release')): return 'study'
        return nodeid if '::test_runs[' in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log): return OneWorkerForAFile(config, log)


BROWSERS = 'chromium', 'chromium-browser', 'google-chrome'


@contextmanager
def browser_page(patience=30):
    "A page of headless Chromium; `patience`: seconds that it waits for what a test looks for"
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path: pytest.skip(f'no browser on this machine ({", ".join(BROWSERS)}): nothing was tried in one')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=['--no-sandbox'])
        page = browser.new_page(viewport={'width': 1400, 'height': 1000})
        page.set_default_timeout(1000*patience)
        try: yield page
        finally: browser.close()
