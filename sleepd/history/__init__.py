"""What happened, kept: rows of history, how they are gathered from published turns, and what a report makes of them."""
