"""Write a report: text tables, figures, the HTML page, LaTeX, BibTeX and the archive of its runs."""
