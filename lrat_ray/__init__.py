"""lrat_ray turns the trajectories of search agents into a better retriever, on a Ray cluster (LRAT, arXiv 2604.04949)."""

__version__ = "0.1.0"
