"""Broadcasts: Megaphone beside mod_announce, on the same sessions in the same run."""
