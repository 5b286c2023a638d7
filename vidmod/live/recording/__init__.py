"""Files of what leaves and of what comes, piece by piece."""
