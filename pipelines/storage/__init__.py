"""Local copies of remote files, scratch folders, locks, and files written whole."""
