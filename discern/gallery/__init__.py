"""People, vehicles and other things that were never a training class, known by their features."""
