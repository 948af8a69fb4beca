"""JupyterLab for the lessons: our settings, and what starts it. Nothing here is imported by another room."""
