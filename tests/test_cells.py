"Three random cells of every page, derived once more from the stored rows, with nothing of the code that made the page"
import json
import random

import numpy as np
import pandas as pd
from bs4 import BeautifulSoup
from facestudy.core import ROOT
from facestudy.measure.measures import MEASURES
from facestudy.study.ablation import BASE, FACTORS
from facestudy.study.claims import CLAIMS
from facestudy.systems.registry import SYSTEMS

REPORTS = ROOT/'reports'
SYSTEM = {entry.label: name for name,entry in SYSTEMS.items()}


def tables(page):
    "Every table of an executed page as a frame of strings"
    cells = json.loads((REPORTS/f'{page}.ipynb').read_text())['cells']
    html = [''.join(o.get('data', {}).get('text/html', '')) for c in cells for o in c.get('outputs', [])]
    return [frame(t) for h in html for t in BeautifulSoup(h, 'html.parser').find_all('table')]


def frame(table):
    "A table of a page"
    def texts(row): return [c.get_text(' ', strip=True) for c in row.find_all(['th', 'td'])]
    heads = [texts(r) for r in table.find('thead').find_all('tr')]
    body = [texts(r) for r in table.find('tbody').find_all('tr')]
    wide = max(map(len, body), default=0)
    names,*_ = heads
    body = [['']*(wide-len(r))+r for r in body]                # what spans several lines is written in the first alone
    if len(heads) > 1: names = [a or b for a,b in zip(names, heads[1])]        # an index has its name one line below
    return pd.DataFrame(body, columns=names)


def the_table(page, *columns):
    "The one table of a page with these columns"
    found = [t for t in tables(page) if set(columns) <= set(t)]
    assert len(found) == 1, f'{page}: {len(found)} tables have the columns {columns}'
    return found[0]


def some(table, columns, n=3):
    "Random cells that hold a number: (line of the table, column)"
    known = [(i, c) for i in range(len(table)) for c in columns if table[c][i] not in ('–', '', 'nan')]
    return random.sample(known, n)


def agree(shown, value, what):
    "Is the printed number the derived one, rounded?"
    places = len(shown.partition('.')[2])
    assert abs(float(shown)-value) <= .5001*10**-places, f'{what}: the page says {shown}, the rows {value:.6f}'


def stored(): return pd.read_csv(REPORTS/'table1.rows.csv', low_memory=False)


def mean_of(rows, system, test, column):
    "Over frames in which the face is seen, then over clips; as plainly as it can be said"
    clips = {}
    for r in rows[(rows.system == system) & (rows.test == test)].to_dict('records'):
        if not r['hidden'] and np.isfinite(r[column]): clips.setdefault(r['clip'], []).append(r[column])
    return sum(sum(v)/len(v) for v in clips.values())/len(clips)


def test_table1():
    rows,table = stored(),the_table('table1', 'method', 'article PSNR', 'pooled PSNR')
    for i,column in some(table, ['PSNR', 'SSIM', 'gain, dB']):
        system = SYSTEM[table.method[i]]
        value = mean_of(rows, system, 'real', 'ssim' if column == 'SSIM' else 'psnr')
        if column == 'gain, dB': value -= mean_of(rows, 'copy_source', 'real', 'psnr')
        agree(table[column][i], value, f'{system}, {column}')


def test_table1_rendered_people():
    rows,table = stored(),the_table('table1', 'method', 'self PSNR', 'cross PSNR')
    places = {'self PSNR': ('self', 'psnr'), 'self SSIM': ('self', 'ssim'), 'cross PSNR': ('cross', 'psnr'),
              'cross SSIM': ('cross', 'ssim')}
    for i,column in some(table[table.method.isin(SYSTEM)].reset_index(drop=True), list(places)):
        known = table[table.method.isin(SYSTEM)].reset_index(drop=True)
        test,measure = places[column]
        value = mean_of(rows, SYSTEM[known.method[i]], f'parametric {test}', measure)
        agree(known[column][i], value, f'{known.method[i]}, {column}')


def test_table1_motion():
    takes = pd.read_csv(REPORTS/'table1.takes.csv')
    table = the_table('table1', 'method', 'landmark error', 'turn aside')
    columns = {'landmark error': 'landmark_error', 'rotation': 'moved_rotation', 'translation': 'moved_translation',
               'turn aside': 'moved_turn', 'expression': 'moved_expression', 'fine detail': 'detail'}
    for i,column in some(table, list(columns)):
        system = SYSTEM[table.method[i]]
        mine = takes[(takes.system == system) & (takes.test == 'parametric cross')]
        middle = np.nanmedian if columns[column].startswith('moved_') else np.nanmean
        agree(table[column][i], middle(mine[columns[column]]), f'{system}, {column}')


def test_anatomy():
    rows,table = stored(),the_table('table1_anatomy', 'method', 'range 1', 'range 2')
    for i,column in some(table, ['range 1', 'range 2']):
        system = SYSTEM[table.method[i]]
        twice = 20*np.log10(2) if column == 'range 2' else 0.     # the same error on a scale twice as wide
        agree(table[column][i], mean_of(rows, system, 'real', 'psnr')+twice, f'{system}, {column}')


def test_errors():
    rows,shown = stored(),[t for t in tables('table1-errors') if 'worst by' in t]
    table = random.choice(shown)
    for i,column in some(table, ['PSNR', 'its PSNR'], min(3, 2*len(table))):
        test,clip = table.test[i],table['clip'][i]
        use = rows[(rows.test == test) & (rows['clip'] == clip) & ~rows.hidden.astype(bool)]
        if column == 'its PSNR': values = use[use.frame == int(table['worst frame'][i])].psnr
        else: values = use.groupby('system').psnr.mean()
        near = values.iloc[(values-float(table[column][i])).abs().argmin()]   # the table stands under its system's name
        agree(table[column][i], near, f'{clip}, {column}')


def test_comparison():
    rows = pd.read_csv(REPORTS/'comparison.rows.csv')
    table = the_table('comparison', 'method', 'PSNR, dB')
    for i,_ in some(table, ['PSNR, dB']):
        mine = rows[(rows.label == table.method[i]) & ~rows.hidden.astype(bool)]
        agree(table['PSNR, dB'][i], mine.psnr.mean(), table.method[i])


def grid():
    "Rows of the grid: cell, seed, test, clip, bin and measures"
    runs = pd.read_csv(REPORTS/'ablation.runs.csv')[['run', 'cell', 'seed']]
    return pd.read_csv(REPORTS/'ablation.rows.csv').merge(runs, on='run')


def test_claims():
    "The estimate of an answer: paired differences between two cells of the grid, at the same seed and clip"
    rows = grid()
    answers = pd.concat([t for t in tables('claims') if 'question' in t and 'estimate' in t], ignore_index=True)
    known = {(q.words, MEASURES[q.measure].words): q for c in CLAIMS.values() for q in c.questions
             if not q.people and set(q.tests) <= set(rows.test)}
    use = answers[[o in known for o in zip(answers.question, answers.measure)]].reset_index(drop=True)
    assert len(use) > 10
    for i,_ in some(use, ['estimate']):
        q = known[use.question[i], use.measure[i]]
        a,b = (rows[(rows.cell == o['cell']) & (rows.bin == o['bin']) & rows.test.isin(q.tests)] for o in (q.a, q.b))
        both = a.merge(b, on=['seed', 'test', 'clip'], suffixes=('', '_b'))
        gap = (both[q.measure]-both[f'{q.measure}_b'])*MEASURES[q.measure].better*(-1 if q.worse else 1)
        value,shown = gap.mean(),float(use.estimate[i])
        assert abs(shown-value) <= .006*abs(value)+1e-9, f'{q.words}, {q.measure}: {shown} and {value:.6g}'


def test_ablation():
    "Means over clips, then seeds, of the three ordinary tests; the lines stand in the order of the factors"
    rows = grid().query("bin == 'all' and test in ['real', 'parametric self', 'parametric cross']")
    [table] = [t for t in tables('ablation') if 'keypoints astray, %' in t]
    names = [(f, level) for f,levels in FACTORS.items() for level in levels]
    cells = ['base' if level == BASE[f] else f'{f}={level}' for f,level in names]
    cells = [c for c in cells if c in set(rows.cell)]
    assert len(cells) == len(table)
    columns = {'PSNR': 'psnr', 'SSIM': 'ssim', 'landmark error': 'landmark_error', 'error over time': 'coherence'}
    for i,column in some(table, list(columns)):
        agree(table[column][i], rows[rows.cell == cells[i]][columns[column]].mean(), f'{cells[i]}, {column}')
