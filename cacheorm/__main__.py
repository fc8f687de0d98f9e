"""``python -m cacheorm``: the same as the command ``cacheorm``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
