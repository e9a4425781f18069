"""Who takes over, when and why: triggers, monitor, commentary and its enhancement."""
