"""Whether all that is written in a figure can be read."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text


def assert_legible(figure):
    """Everything written is large enough, inside the figure, and beside all else."""
    FigureCanvasAgg(figure).draw()
    assert figure.bbox.width <= 900
    undrawn = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    }
    texts = [
        text
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible() and text not in undrawn
    ]
    assert min(text.get_fontsize() for text in texts) >= 8
    boxes = [text.get_window_extent() for text in texts]
    for box in boxes:
        assert box.x0 >= 0 <= box.y0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    obstacles = [axes.get_window_extent() for axes in figure.axes]
    for i, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        assert not any(box.overlaps(other) for other in boxes[:i]), text
        if not isinstance(text, Annotation):
            assert not any(box.overlaps(panel) for panel in obstacles), text
