"""What everybody shares: data, models, records, protocols. Imports no other part of the project."""
