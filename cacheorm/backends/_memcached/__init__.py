"""The parts of the memcached backend.

=================  ===========================================================================================
``addresses``      servers as users write them
``commands``       the backend's methods as coroutines, over an engine
``meta``           an engine: memcached's meta commands on one server
``exchange``       what is below it: requests, and the replies that are due
``blocking``       connections that block, and their pool
``awaited``        connections of asyncio, and their pool
``ring``           an engine over several servers: parts of a batch, and what becomes of those whose server fails
``ketama``         which server has which points of the ring
``health``         whether a server answers: what all callers know of it
``together``       exchanges with several servers at the same time
``unwritten``      the status of an entry whose server failed
``_pylibmc``       another engine: a ``pylibmc.Client`` that was passed in
=================  ===========================================================================================
"""
