"""What is measured along a drive, and which of it belongs to a frame."""
