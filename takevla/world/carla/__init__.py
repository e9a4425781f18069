"""The bridge to CARLA: its world behind this project's protocols.  Only this room imports `carla`."""
