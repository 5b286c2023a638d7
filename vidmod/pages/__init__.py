"""HTML pages for reviewers: one self-contained file each, which needs no network and opens from disk."""
