"""The parts of the memcached backend.

=================  =================================================================================
``addresses``      servers as users write them
``commands``       the backend's methods as coroutines, over an engine
``meta``           an engine: memcached's meta commands on one server
``exchange``       what is below it: requests, and the replies that are due
``blocking``       connections that block, and their pool
``awaited``        connections of asyncio, and their pool
``_pylibmc``       another engine: a ``pylibmc.Client`` that was passed in
=================  =================================================================================
"""
