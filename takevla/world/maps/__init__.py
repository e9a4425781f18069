"""Towns: built in, or read from OpenDRIVE; route XML."""
