"""What travels between clients, server, adversary and defenses."""
