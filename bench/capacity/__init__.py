"""Whether the capacity estimate is right: predict, then open the sessions."""
