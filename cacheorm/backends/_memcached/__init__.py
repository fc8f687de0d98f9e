"""The parts of the memcached backend.

===================  ===========================================================================================
``addresses``        servers as users write them
``access``           TLS, user names and passwords
``commands``         the backend's methods as coroutines, over an engine
``engine``           an engine: memcached's meta commands on one or several servers
``compare_and_set``  its operations in several steps, such as counting below zero
``exchanges``        what is below it: requests, and the replies that are due
``servers``          which server has a key, and exchanges with those that a batch needs
``endpoint``         a server, and how connections to it are made
``rings``            the ring of all servers, and those without some that do not reply
``ketama``           which server has which points of a ring
``_pylibmc``         another engine: a ``pylibmc.Client`` that was passed in
===================  ===========================================================================================

Connections, pools and circuit breakers are those of :mod:`.._net`.
"""
