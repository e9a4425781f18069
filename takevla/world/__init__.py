"""What moves it: dynamics, traffic, scenarios, lights, camera, criteria."""
