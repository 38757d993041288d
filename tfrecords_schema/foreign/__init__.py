"""Records of other programs: what they hold, and how they become ours."""
