"""A good teacher is patient and consistent: function matching (arXiv 2106.05237)."""
