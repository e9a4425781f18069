"""What a person sees: tables, plots, clips, the HTML report."""
