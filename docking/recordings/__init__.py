"""What a station keeps of the agents that passed, so that their journeys can be looked at again."""
