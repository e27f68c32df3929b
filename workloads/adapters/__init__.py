"""The outside world behind the ports: in memory, over REST, in SQL. None of them imports another."""
