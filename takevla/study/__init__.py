"""A study: arms times seeds, what they share done once, and the page of results made of their small files."""
