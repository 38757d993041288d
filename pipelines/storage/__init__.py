"""Local copies of objects on stores, scratch folders and locks."""
