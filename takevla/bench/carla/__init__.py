"""Our drivers on the CARLA leaderboard: its agent, and Bench2Drive's evaluator under supervision."""
