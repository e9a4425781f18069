"""The commands of `takevla`: each parses, calls one function of a room, and says what came of it."""
