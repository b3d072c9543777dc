"""Studies of the measures and of the search, counting, and benchmarks: what tools/analysis_tools/ runs.

Each study is one module: :mod:`.correlate` (does a measure predict trained accuracy?),
:mod:`.seed_percentiles` (how do found seeds rank among random ones?), :mod:`.compare_methods`,
:mod:`.referee` (measures judged by a table of trained networks) and :mod:`.compare_schedules`.
:mod:`.bench` is a table of trained networks of the search space.
"""
