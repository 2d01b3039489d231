"""What is kept of trials: the store of result files, its index, the pandas view and the statistics over it."""
