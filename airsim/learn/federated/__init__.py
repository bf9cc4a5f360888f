"""What a federation learns in a round: devices train, an operator says what travels and what comes of it."""
