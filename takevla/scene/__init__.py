"""What a world is: road map, route, actors, observation and plan, geometry, time-to-collision."""
