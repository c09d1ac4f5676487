"""Scrapes: what they cost a node that has very many sessions."""
