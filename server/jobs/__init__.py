"""Jobs: the queue that agents lease from."""
