"""Local copies of objects on stores, new files, scratch folders and locks."""
