"""Redis: what :class:`~cacheorm.backends.redis.RedisBackend` asks for, and the ways it gets to a server."""
