"""Who drives: the expert, the VLA, the controller, and the loop that joins many worlds and a driver."""
