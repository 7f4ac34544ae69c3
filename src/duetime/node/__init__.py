"""A running process that claims and fires: claimer → timeline → firer → runner → settler.

The keeper stands beside them: it beats, divides the shards and rescues what dead nodes held.
"""
