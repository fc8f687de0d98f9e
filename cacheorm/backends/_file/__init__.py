"""The parts of the file backend.

===============  ==============================================================================
``operations``   statements and transactions, and what their errors become
``database``     one file: runs operations on it, and waits, repeats or makes it anew if need be
``connections``  connections, those that are idle, and what happens to them when a process forks
``writers``      the order in which the writers of one process get their turn
``opening``      opening the file, with its settings and tables
``folder``       which file it is, creating it, and putting a damaged one aside
``table``        ids of entries, and reading and writing many at once
``sweeper``      removing expired entries
===============  ==============================================================================
"""
