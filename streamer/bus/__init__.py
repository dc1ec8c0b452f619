"""From picks to Redis streams: connection, publisher, embedded broker."""
