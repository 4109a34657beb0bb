"""What people read: text tables, figures, the page, LaTeX, the archive."""
