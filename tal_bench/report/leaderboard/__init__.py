"""Published results: one JSON file per result, written from studies or by hand, and their leaderboard."""
