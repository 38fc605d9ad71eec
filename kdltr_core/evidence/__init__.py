"""What makes people trust a student, or not: comparisons, curves, mistakes and pictures, on one page."""
