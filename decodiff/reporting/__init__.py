"""From metrics, maps and images to tables, figures and one page."""
