"""The parts of the file backend.

=============  ================================================================
``database``   the file and its tables, and connections to it
``table``      ids of entries, and reading and writing many at once
``sweeper``    removing expired entries
=============  ================================================================
"""
