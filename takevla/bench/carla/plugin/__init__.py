"""The agent file alone: the leaderboard puts its folder on the import path, where nothing may shadow."""
