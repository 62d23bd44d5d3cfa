"The site: every link leads somewhere, every picture is described, nothing comes from elsewhere, no page is heavy"
import shutil
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup
from facestudy.core import ROOT, InputError
from facestudy.pages.book import RESULTS, book, stage
from facestudy.pages.readme import notebooks

MOST = 3_000_000 # bytes that a page may weigh, with all that it loads

needs_browser = pytest.mark.skipif(not shutil.which('chromium'),
                                   reason='no Chromium on this machine: pages were not opened in a browser')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The whole book, made once"
    said = []
    with pytest.MonkeyPatch.context() as m:
        m.setattr('builtins.print', lambda *a, **k: said.append(a))
        page = book(tmp_path_factory.mktemp('book'))
    assert not said, f'Sphinx warns: {said[:5]}'
    return page.parent


def pages(site):
    "Pages that a reader reads; indices and searches are Sphinx's own"
    return [p for p in site.rglob('*.html') if p.parent.name != '_static']


@cache
def soup(page): return BeautifulSoup(page.read_text(), 'html.parser')


def here(page, link):
    "The file that a link leads to, and its anchor; None where it leaves the site"
    address,anchor = urldefrag(link)
    if urlsplit(link).scheme: return None
    return (page.parent/unquote(urlsplit(address).path)).resolve() if address else page,unquote(anchor)


def anchors(page): return {t[k] for t in soup(page).find_all(True) for k in ('id', 'name') if t.has_attr(k)}


def says(image):
    "Is a picture described? Its address, which Sphinx puts there otherwise, is no description"
    alt = image.get('alt', '').strip()
    return alt and alt != image['src'] and not alt.startswith(('data:', '_images/'))


def loaded(page):
    "What a page loads: scripts, styles, pictures, videos"
    tags = soup(page).find_all(['script', 'img', 'video', 'source', 'link'])
    found = [t.get('src') or (t.get('href') if 'stylesheet' in t.get('rel', ()) else '') for t in tags]
    return [o for o in found if o and not o.startswith('data:')]


def test_links_lead_somewhere(site):
    broken = []
    for page in pages(site):
        for a in soup(page).find_all('a', href=True):
            target = here(page, a['href'])
            if target is None: continue
            file,anchor = target
            if not file.exists() or (anchor and file.suffix == '.html' and anchor not in anchors(file)):
                broken.append(f'{page.relative_to(site)}: {a["href"]}')
    assert not broken, f'{len(broken)} links lead nowhere: {broken[:9]}'


def test_pictures_are_described(site):
    def silent_ones(page): return [i for i in soup(page).find_all('img') if not says(i)]
    silent = [f'{p.relative_to(site)}: {i["src"][:60]}' for p in pages(site) for i in silent_ones(p)]
    assert not silent, f'{len(silent)} pictures without words: {silent[:9]}'


def test_nothing_comes_from_elsewhere(site):
    outside = [f'{p.relative_to(site)}: {o}' for p in pages(site) for o in loaded(p) if urlsplit(o).netloc]
    assert not outside, outside[:9]


def test_pages_are_light(site):
    weights = {}
    for page in pages(site):
        files = {here(page, o)[0] for o in loaded(page)}
        weights[page.relative_to(site)] = page.stat().st_size + sum(f.stat().st_size for f in files)
    heavy = {str(k): v for k,v in weights.items() if v > MOST}
    assert not heavy, heavy


def test_every_notebook_and_page_is_there(site):
    for name in RESULTS: assert (site/'reports'/f'{name}.html').exists()
    chapters = [p.relative_to(ROOT).with_suffix('.html') for p in notebooks()]
    missing = [c for c in chapters if not (site/c).exists()]
    assert not missing, missing


def opened(page, profile):
    "A page as Chromium has it after its scripts ran, from the folder, where no name resolves"
    command = ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--host-resolver-rules=MAP * ~NOTFOUND',
               f'--user-data-dir={profile}', '--virtual-time-budget=8000', '--dump-dom', page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


def test_a_room_shows_a_card_for_each_chapter(site):
    page = site/'nbs'/'people'/'index.html'
    cards = soup(page).select('.chapter')
    assert len(cards) == sum(p.parent.name == 'people' for p in notebooks())
    assert all(c.find('img') and c.find('a', class_='reference') for c in cards)


@needs_browser
def test_a_browser_asks_nobody(site, tmp_path):
    "Formulas are drawn although no name resolves"
    dom = opened(site/'nbs'/'method'/'06_swats.html', tmp_path)
    assert '<mjx-container' in dom, 'MathJax drew no formula'


@needs_browser
def test_details_are_folded(site, tmp_path):
    found = BeautifulSoup(opened(site/'reports'/'claims.html', tmp_path), 'html.parser').select('details.fold')
    assert len(found) > 9 and all(d.summary.h2 for d in found) and not any(d.has_attr('open') for d in found)


def test_a_page_that_was_never_rendered(tmp_path, monkeypatch):
    monkeypatch.setattr('facestudy.pages.book.RESULTS', ('none',))
    with pytest.raises(InputError, match='none.ipynb'): stage(tmp_path/'source')
