"""What to build from: each module turns one kind of input into a `Listing`. Nothing is opened or decoded."""
