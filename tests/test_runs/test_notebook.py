"""What a run shows in a notebook: cells that a real IPython kernel runs."""

import nbformat
import pytest
from nbclient import NotebookClient

SEARCH = """
import asvit_mm
found = asvit_mm.search(data='digits', img_size=16, batch_size=4, repeat=1, steps=3, device='cpu')
found.architecture
"""


def run(folder, *cells):
    """The cells' outputs as one text each, with what widgets show."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(folder)}})
    client.execute()
    widgets = [str(state.get('outputs', '')) for state in client.widget_state.values()]
    shown = [
        ''.join(output.get('text', '') + str(output.get('data', '')) for output in cell.outputs)
        for cell in notebook.cells
    ]
    return shown, ''.join(widgets)


@pytest.mark.slow
def test_a_bar_that_ends_full_then_the_summary(tmp_path):
    (out,), widgets = run(tmp_path, SEARCH)
    assert '3/3' in widgets
    assert 'search' in widgets
    assert (
        out.index('widget-view') < out.index('architecture  ') < out.index('NTK condition number')
    )
    assert 'Architecture(kernels=' in out


@pytest.mark.slow
def test_lines_where_there_are_no_widgets(tmp_path):
    (_, out), widgets = run(tmp_path, "import sys; sys.modules['ipywidgets'] = None", SEARCH)
    assert widgets == ''
    assert [
        word for word in ('search:  33%', 'search:  67%', 'search: 100%') if word not in out
    ] == []
    assert 'UserWarning' not in out
