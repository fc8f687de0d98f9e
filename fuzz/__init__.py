"""Fuzzing of what exists twice: the compiled build does with any bytes exactly what the pure one does.

A target (:mod:`.targets`) makes calls of some bytes, and returns all that can be seen of them. It runs in both builds,
which are in one process (:mod:`.builds`); any difference is a find. New inputs are made of those that reached lines or
errors of the pure build that none before them had (:mod:`.engine`). ``make fuzz`` starts it, and ``CONTRIBUTING.md``
says what to do with a find.
"""
