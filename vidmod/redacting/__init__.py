"""The redact job: a file and what is in it to a file that can be shown."""
