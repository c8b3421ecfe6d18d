"""What MLflow gets: the only room that imports it."""
