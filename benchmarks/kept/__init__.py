"""Results that the documentation shows, and the charts drawn from them.

    python -m benchmarks.kept                          draw docs/pictures/bench-*.svg again
    python -m benchmarks.kept length results/latest.json   keep a workload of a run, then draw

Each JSON file beside this one is one chart: a title, facts about the machine, and panels of bars.
Bars start at zero and are linear within their panel; a line shows the extremes or quartiles.
"""
