"""One trial from start to result, and the workers that run many of them."""
