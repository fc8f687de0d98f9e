"""What cacheorm costs, beside hand-written driver code and other libraries; see docs/benchmarks.md."""
