"""Flower and Ray: the only room that imports them."""
