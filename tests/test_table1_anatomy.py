"The report that takes the printed Table 1 apart: nbs/reports/table1_anatomy.ipynb"
import numpy as np
import pandas as pd

from facestudy.core import ROOT
from facestudy.pages.render import render
from facestudy.pages.tables import paper_table1
from facestudy.systems.registry import SYSTEMS


def test_numbers_of_other_papers_say_where_they_are_from():
    t = pd.read_csv(ROOT/'data'/'printed_elsewhere.csv')
    assert set(t.standing) <= {'recalled', 'checked'} and t.source.str.len().min() > 20
    assert not t.duplicated(['table', 'system']).any()
    assert t[['l1', 'psnr', 'ssim']].notna().any(axis=1).all()
    assert t.l1.dropna().between(0, 1).all() and t.ssim.dropna().between(0, 1).all()
    assert set(t.system) <= {*paper_table1().index, 'first_order'}


def made_up(systems, clips=3, frames=4):
    "Rows of a study that never took place"
    rng,rows = np.random.default_rng(0),[]
    same = {'hidden': False, 'parameters': 1, 'fps': 1., 'steps': 1, 'batch': 1, 'train_seconds': 1.}
    for s in systems:
        for i in range(clips):
            place = {'system': s, 'label': s.title(), 'run': s, 'clip': f'c{i}', 'frame': range(1, frames+1)}
            one = pd.DataFrame({**place, **same})
            rows.append(one.assign(psnr=rng.uniform(20, 32, frames), ssim=rng.uniform(.5, .95, frames)))
    return pd.concat(rows, ignore_index=True)


def test_it_renders_from_any_rows(tmp_path):
    made_up(('copy_source', 'suggested')).to_csv(tmp_path/'rows.csv', index=False)
    places = dict(rows=str(tmp_path/'rows.csv'), figures=str(tmp_path/'figures'))
    page = render(ROOT/'nbs'/'reports'/'table1_anatomy.ipynb', tmp_path/'a.ipynb', **places).read_text()
    said = 'the text contradicts the table', '6.0206', '4 different orders', 'not one comparison'
    for words in (*said, SYSTEMS['copy_source'].label): assert words in page, words
    recalled = (pd.read_csv(ROOT/'data'/'printed_elsewhere.csv').standing == 'recalled').sum()
    assert page.count('Recalled, not checked') >= 2 and f'{recalled} of the' in page, 'said beside the numbers'
    assert 'stderr' not in (tmp_path/'a.ipynb').read_text()
    assert len(list((tmp_path/'figures').glob('anatomy*.png'))) == 2
