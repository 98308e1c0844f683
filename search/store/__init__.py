"""What is written and read: every file of a sweep, on a disk or in an object store, and who may write it."""
