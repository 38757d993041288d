"""Local copies of objects on stores, and new files."""
