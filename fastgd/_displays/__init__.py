"""The displays of `fastgd.inspection`, one per file; matplotlib is imported where something is drawn."""
