"""What agents did: the normal form of a trajectory, and importers for the formats in which runs are logged."""
