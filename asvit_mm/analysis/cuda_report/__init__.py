"""One report of everything that only a GPU can show: correctness, speed, the method's time, training.

:mod:`.report` runs the four parts and writes their rows as they come: :mod:`.correct`, :mod:`.fast`,
:mod:`.method` and :mod:`.training`. :mod:`.rows` is what the parts share, :mod:`.aims` what is to be reached.
"""
