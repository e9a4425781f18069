"""How frames rest on disk: format, collection, buckets, mixture."""
