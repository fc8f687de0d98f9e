"""The parts of the file backend.

=============  ================================================================
``database``   the file and its tables, and connections to it
``table``      where entries lie, and reading and writing many at once
``sweeper``    removing what has expired
=============  ================================================================
"""
