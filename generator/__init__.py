"""Behaviour logs in the format of UserBehavior.csv, generated and compared."""
