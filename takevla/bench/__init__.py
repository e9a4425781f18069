"""How good it is: suites, scores, statistics, the runner."""
