"The report that takes the printed Table 1 apart: nbs/reports/table1_anatomy.ipynb"
import numpy as np
import pandas as pd
import pytest

from facestudy.core import ROOT
from facestudy.pages.render import render
from facestudy.pages.tables import paper_table1

def test_numbers_of_other_papers_say_where_they_are_from():
    t = pd.read_csv(ROOT/'data'/'printed_elsewhere.csv')
    assert set(t.standing) <= {'recalled', 'checked'} and t.source.str.len().min() > 20 and not t.duplicated(['table', 'system']).any()
    assert t[['l1', 'psnr', 'ssim']].notna().any(axis=1).all() and t.l1.dropna().between(0, 1).all() and t.ssim.dropna().between(0, 1).all()
    assert set(t.system) <= {*paper_table1().index, 'first_order'}

def made_up(systems, clips=3, frames=4):
    "Rows of a study that never took place"
    rng = np.random.default_rng(0)
    one = lambda s, c: pd.DataFrame({'system': s, 'label': s.title(), 'run': s, 'clip': c, 'frame': range(1, frames+1), 'psnr': rng.uniform(20, 32, frames), 'ssim': rng.uniform(.5, .95, frames),
                                     'hidden': False, 'parameters': 1, 'fps': 1., 'steps': 1, 'batch': 1, 'train_seconds': 1.})
    return pd.concat([one(s, f'c{i}') for s in systems for i in range(clips)], ignore_index=True)

@pytest.mark.parametrize('systems', [('copy_source', 'suggested')])
def test_it_renders_from_any_rows(systems, tmp_path):
    made_up(systems).to_csv(tmp_path/'rows.csv', index=False)
    page = render(ROOT/'nbs'/'reports'/'table1_anatomy.ipynb', tmp_path/'a.ipynb', rows=str(tmp_path/'rows.csv'), figures=str(tmp_path/'figures')).read_text()
    for o in ('the text contradicts the table', '6.0206', '4 different orders', 'not one comparison', 'Copy_Source'): assert o in page, o
    assert 'stderr' not in (tmp_path/'a.ipynb').read_text() and len(list((tmp_path/'figures').glob('anatomy*.png'))) == 2
