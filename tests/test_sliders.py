"Figures with sliders on a page without a kernel, in headless Chromium"
import numpy as np
import pytest
from conftest import browser_page
from facestudy.sliders import Choice, Slider, Swipe, Touchable


def plate(shade, name='a'):
    "A plate whose brightness is the number, and 100 more for another name"
    return np.full((8, 8, 3), shade+100*(name != 'a'), np.uint8)


@pytest.fixture
def page():
    "An empty page"
    with browser_page() as page: yield page


BRIGHTNESS = '''async image => {
  await image.decode();
  const canvas = document.createElement('canvas'), context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return context.getImageData(4, 4, 1, 1).data[0]
}'''


def brightness(page): return page.locator('img').first.evaluate(BRIGHTNESS)


def move(page, control, value):
    "Move a slider, or choose from a list"
    page.locator(control).evaluate('(o, v) => { o.value = v; o.dispatchEvent(new Event("input", {bubbles: true})) }', value)


def test_every_combination(page):
    "Both the slider and the list count, and the number beside the slider follows"
    figure = Touchable(plate, 'a plate', together=True, shade=Slider(0, 100, 50, steps=3), name=Choice(('a', 'b')))
    page.set_content(figure._repr_html_())
    assert abs(brightness(page)-50) < 3
    move(page, 'input', 2)
    assert abs(brightness(page)-100) < 3 and page.locator('output').inner_text() == '100'
    move(page, 'select', 1)
    assert abs(brightness(page)-200) < 3


def test_one_moves_the_others_rest(page):
    "Where combinations were not drawn, the other slider goes back: the picture is what the sliders say"
    figure = Touchable(lambda left, right: plate(left+right), 'a plate', left=Slider(0, 100, 0, steps=2),
                       right=Slider(0, 100, 50, steps=3))
    page.set_content(figure._repr_html_())
    move(page, 'input >> nth=1', 2)
    assert abs(brightness(page)-100) < 3
    move(page, 'input >> nth=0', 1)
    assert abs(brightness(page)-150) < 3
    assert page.locator('input').nth(1).input_value() == '1' and page.locator('output').nth(1).inner_text() == '50'


def test_a_swipe_moves_its_edge(page):
    "At the right end the left picture covers everything"
    page.set_content(Swipe(plate(0), plate(200), 'two plates', width=100)._repr_html_())
    def cut(): return page.locator('img').nth(1).evaluate('o => o.style.clipPath')
    assert cut() == 'inset(0px 50% 0px 0px)'
    move(page, 'input', 100)
    assert cut() == 'inset(0px 0% 0px 0px)'
