"""The lessons as a book: static HTML from notebooks, docstrings, declarations and measurements. ``make book``."""
