"""`make bench-peers`: Turnstream beside what else keeps sessions or runs tasks on Redis, on one machine, in one run."""
