"""What did the attacker get? The only place where ground truth and answers meet."""
