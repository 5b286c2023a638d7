"""vidmod: find what is in a video, when, where and how sure; then cover it."""
