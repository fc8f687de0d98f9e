"""Everything about connections, once for all servers and for both kinds of I/O.

================  =====================================================================================
module            what it has
================  =====================================================================================
transport         the protocols that the others share: a connection, a server, a kind of I/O; and their errors
threads           connections that block, shared by threads
asyncio_loop      connections of asyncio, shared by the tasks of one event loop
apart             connecting in a task or a thread of its own
pool              a bounded number of connections to one server
admission         where operations wait to begin while an event loop has no connections left
exchange          requests to one server and the replies that are due: read all or close, and what may be repeated
fanout            exchanges with several servers at the same time
breaker           whether a server is left alone because it did not reply
sync_bridge       runs coroutines that never suspend, without an event loop
per_loop          one object for each event loop
backend           backends whose commands are written once for both kinds of I/O
================  =====================================================================================

Protocols know no sockets, and this package knows no protocol: an :class:`~.exchange.Exchange` gives bytes to send, and
takes the replies out of the connection's reader.
"""
