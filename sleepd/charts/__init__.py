"""Charts as SVG and pages as HTML that stand alone: pure functions of values, without scripts and outside assets.

`draw_timeline`, `draw_bars` and `draw_areas` give SVG with a title and a description; `make_page` puts sections of
charts and tables under one style, which is dark or light as the reader's system is.
"""

from sleepd.charts.areas import Area, draw_areas
from sleepd.charts.bars import Bar, draw_bars
from sleepd.charts.page import Section, Table, make_page
from sleepd.charts.timeline import Lane, Span, draw_timeline
from sleepd.charts.window import Window

__all__ = [
    "Area",
    "Bar",
    "Lane",
    "Section",
    "Span",
    "Table",
    "Window",
    "draw_areas",
    "draw_bars",
    "draw_timeline",
    "make_page",
]
