"""What a student can do after a stage: numbers with intervals, by suites that a config names."""
