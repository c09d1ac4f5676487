"""What `megaphone attach` and `megaphone detach` do to a node, and what they check first."""
